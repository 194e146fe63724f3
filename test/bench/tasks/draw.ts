import { createRng, permutation } from '../../../adapters/optimise/rng.ts'
import type { Row } from './sets.ts'

/**
 * As many rows of every label as there can be of `count`, one at least, by a seeded shuffle of all.
 * Draws of one seed are nested: the rows of a small count are among those of a greater.
 */
export function drawBalanced(
  rows: readonly Row[],
  words: readonly string[],
  seed: number,
  count: number,
): Row[] {
  const shuffled = permutation(rows.length, createRng(seed)).map((i) => rows[i]!)
  const perLabel = Math.max(1, Math.floor(count / words.length))
  return words.flatMap((word) => shuffled.filter((row) => row.word === word).slice(0, perLabel))
}

/** Indices of the rows' labels. */
export const goldOf = (rows: readonly Row[], words: readonly string[]): number[] =>
  rows.map(({ word }) => words.indexOf(word))
