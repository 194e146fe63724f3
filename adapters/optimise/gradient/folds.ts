import { createRng, permutation } from '../rng.ts'

/** Streams of the seed's generator, apart from those of the other optimisers. */
const STREAM_FOLDS = 11
const STREAM_BATCHES = 12

/**
 * Splits examples into folds that hold each label about equally often: each label's examples are
 * shuffled and dealt out in turn, going on where the label before left off.
 * @param gold label of each example
 * @param numFolds at least 2
 * @param groups equal for examples that stay together, as repeated inputs do; none by default. A
 * group is dealt out as its first example
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

/** A third of the examples a step costs a third, and a fit of twenty examples does as well by it. */
const BATCH_SHARE = 1 / 3
/** Fewer say little about where to go; more cost time that more steps use better. */
const BATCH_LIMITS = [6, 32] as const

/**
 * Splits examples into the batches that gradient steps take in turn: a third of the examples each,
 * six at least and 32 at most, with each label about equally often.
 * @returns batch of each example, [examples]
 */
export function stratifiedBatches(gold: readonly number[], seed: number): number[] {
  const [least, most] = BATCH_LIMITS
  const size = Math.min(most, Math.max(least, Math.ceil(BATCH_SHARE * gold.length)))
  const numBatches = Math.ceil(gold.length / size)
  if (numBatches < 2) return gold.map(() => 0)
  return stratifiedFolds(gold, numBatches, seed, undefined, STREAM_BATCHES)
}

/** Folds of a guard: sixteen of twenty examples to learn from, and each held out once. */
export const NUM_FOLDS = 5
/** Of more examples than this, two thirds are enough to learn from. */
const MAX_FEW_EXAMPLES = 128
/** A step of a search then costs half of what it does with five folds, and a report five sevenths. */
const NUM_FOLDS_OF_MANY = 3

/** As many of `numFolds` as there are examples, or groups of them, to fill; three at most of many. */
export function countFolds(groups: readonly number[], numFolds: number = NUM_FOLDS): number {
  const numGroups = new Set(groups).size
  const most = numGroups > MAX_FEW_EXAMPLES ? NUM_FOLDS_OF_MANY : numGroups
  return Math.min(numFolds, most)
}
