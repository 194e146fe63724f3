import { createRng, permutation } from '../rng.ts'

/** Stream of the seed's generator, apart from those of the other optimisers. */
const STREAM_FOLDS = 11

/**
 * Splits examples into folds that hold each label about equally often: each label's examples are
 * shuffled and dealt out in turn, going on where the label before left off.
 * @param gold label of each example
 * @param numFolds at least 2
 * @returns fold of each example, [examples]
 * @throws {RangeError} fewer examples than folds, or fewer than two folds
 */
export function stratifiedFolds(gold: readonly number[], numFolds: number, seed: number): number[] {
  if (numFolds < 2 || gold.length < numFolds) {
    throw new RangeError(`${gold.length} examples cannot make ${numFolds} folds`)
  }
  const rng = createRng(seed, STREAM_FOLDS)
  const folds = new Array<number>(gold.length).fill(0)
  let next = 0
  for (const label of [...new Set(gold)].sort((a, b) => a - b)) {
    const members = gold.flatMap((other, example) => (other === label ? [example] : []))
    for (const place of permutation(members.length, rng)) {
      folds[members[place]!] = next
      next = (next + 1) % numFolds
    }
  }
  return folds
}
