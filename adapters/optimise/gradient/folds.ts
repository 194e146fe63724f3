import { createRng, permutation } from '../rng.ts'

/** Streams of the seed's generator, apart from those of the other optimisers. */
const STREAM_FOLDS = 11
const STREAM_BATCHES = 12

/**
 * Splits examples into folds with about equal numbers of each label. It shuffles each label's examples
 * and deals them to the folds in turn; the next label starts where the last one stopped.
 * @param gold label of each example
 * @param numFolds at least 2
 * @param groups group of each example; a group, such as one repeated input, stays in one fold and has
 * the label of its first example. By default every example is its own group
 * @returns fold of each example, [examples]
 * @throws {RangeError} fewer groups than folds, or fewer than two folds
 */
export function stratifiedFolds(
  gold: readonly number[],
  numFolds: number,
  seed: number,
  groups: readonly number[] = gold.map((_, example) => example),
  stream: number = STREAM_FOLDS,
): number[] {
  const firsts = new Map<number, number>()
  groups.forEach((group, example) => {
    if (!firsts.has(group)) firsts.set(group, example)
  })
  if (numFolds < 2 || firsts.size < numFolds || groups.length !== gold.length) {
    throw new RangeError(`${firsts.size} examples cannot make ${numFolds} folds`)
  }
  const rng = createRng(seed, stream)
  const foldOf = new Map<number, number>()
  let next = 0
  for (const label of [...new Set(gold)].sort((a, b) => a - b)) {
    const members = [...firsts].flatMap(([group, first]) => (gold[first] === label ? [group] : []))
    for (const place of permutation(members.length, rng)) {
      foldOf.set(members[place]!, next)
      next = (next + 1) % numFolds
    }
  }
  return groups.map((group) => foldOf.get(group)!)
}

/** A step on a third of the examples costs a third, and fits twenty examples as well. */
const BATCH_SHARE = 1 / 3
/** Smaller batches give too noisy a gradient; larger ones cost time that more steps use better. */
const BATCH_LIMITS = [6, 32] as const

/**
 * Splits examples into the batches that gradient steps take in turn. A batch has a third of the
 * examples, at least six and at most 32, with about equal numbers of each label.
 * @returns batch of each example, [examples]
 */
export function stratifiedBatches(gold: readonly number[], seed: number): number[] {
  const [least, most] = BATCH_LIMITS
  const size = Math.min(most, Math.max(least, Math.ceil(BATCH_SHARE * gold.length)))
  const numBatches = Math.ceil(gold.length / size)
  if (numBatches < 2) return gold.map(() => 0)
  return stratifiedFolds(gold, numBatches, seed, undefined, STREAM_BATCHES)
}

/** With five folds each fit learns from sixteen of twenty examples, and each example is held out once. */
export const NUM_FOLDS = 5
/** With more examples than this, two thirds of them are enough to learn from. */
const MAX_FEW_EXAMPLES = 128
/** With three folds a step costs half as much as with five, and a report five sevenths. */
const NUM_FOLDS_OF_MANY = 3

/**
 * The number of folds for some examples: at most `numFolds`, at most one per group, and at most three
 * if there are many groups.
 * @param groups group of each example
 */
export function countFolds(groups: readonly number[], numFolds: number = NUM_FOLDS): number {
  const numGroups = new Set(groups).size
  const most = numGroups > MAX_FEW_EXAMPLES ? NUM_FOLDS_OF_MANY : numGroups
  return Math.min(numFolds, most)
}
