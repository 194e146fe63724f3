import { createRng, permutation } from '../rng.ts'

/** Stream of the seed's generator, apart from those of the other optimisers. */
const STREAM_FOLDS = 11

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
): number[] {
  const firsts = new Map<number, number>()
  groups.forEach((group, example) => {
    if (!firsts.has(group)) firsts.set(group, example)
  })
  if (numFolds < 2 || firsts.size < numFolds || groups.length !== gold.length) {
    throw new RangeError(`${firsts.size} examples cannot make ${numFolds} folds`)
  }
  const rng = createRng(seed, STREAM_FOLDS)
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
