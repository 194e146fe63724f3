import type { RoundFit } from './options.ts'

/** The score of a text, and the texts that it competes with. */
export type Graded = {
  /** The texts of a group answer one prompt under one candidate; the choice is within a group. */
  readonly group: number
  readonly score: number
}

/**
 * Chooses the texts that a round fits. From each group it takes the best text, or the best and then the
 * worst; on a tie the earliest. It skips a group of equal scores, which teaches nothing.
 * @returns indices into `texts`, group by group
 * @throws {RangeError} a score is not finite
 */
export function selectTexts(texts: readonly Graded[], fit: RoundFit): number[] {
  const extremes = new Map<number, { best: number; worst: number }>()
  for (const [place, { group, score }] of texts.entries()) {
    if (!Number.isFinite(score)) throw new RangeError(`the score ${score} is not finite`)
    const known = extremes.get(group)
    if (known === undefined) {
      extremes.set(group, { best: place, worst: place })
      continue
    }
    if (score > texts[known.best]!.score) known.best = place
    if (score < texts[known.worst]!.score) known.worst = place
  }
  return [...extremes.values()].flatMap(({ best, worst }) => {
    if (texts[best]!.score === texts[worst]!.score) return []
    return fit === 'best' ? [best] : [best, worst]
  })
}
