import { LOG_PROB_FLOOR, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { createRng, permutation } from '../optimise/rng.ts'

/** Permutations drawn: a p-value near 0.05 is accurate to ±0.01, and 2,000 examples take a second. */
const NUM_DRAWS = 1_999
/** Stream of the generator. Its seed is fixed, so a repeated test gives the same p-value. */
const STREAM_ANSWERS = 23
/** Sums that differ by a smaller share of their size are equal, so that rounding does not decide. */
const TIE = 1e-9

/** A model's predictions for one set of labelled examples. */
export type AnsweredSet = {
  readonly logProbs: LabelLogProbs
  /** Right label of each example. */
  readonly gold: readonly number[]
}

/**
 * Permutation test of whether a model's predictions depend on the right labels. The statistic is the
 * summed log probability of the right labels; a permutation shuffles the labels within each set. The
 * test is one-sided. Its only assumption is that all orders of the labels are equally likely for a
 * model that knows nothing of the task.
 *
 * A label bias adds the same amount to every permutation, so it does not change the p-value: a model
 * that always prefers one label does not pass.
 * @returns p-value in (0, 1]
 * @throws {RangeError} no examples, or the lengths differ
 * Source: Ojala and Garriga 2010, Permutation tests for studying classifier performance, test 1
 */
export function knowledgeTest(sets: readonly AnsweredSet[]): number {
  let size = 0
  const sumOf = (orders: readonly (readonly number[])[]): number =>
    sets.reduce(
      (total, { logProbs, gold }, set) =>
        logProbs.reduce(
          (sum, row, i) => sum + Math.max(row[gold[orders[set]![i]!]!]!, LOG_PROB_FLOOR),
          total,
        ),
      0,
    )
  for (const { logProbs, gold } of sets) {
    if (logProbs.length !== gold.length) {
      throw new RangeError(`${logProbs.length} predictions for ${gold.length} labels`)
    }
    size += logProbs.length
  }
  if (size === 0) throw new RangeError('no examples')
  const seen = sumOf(sets.map(({ gold }) => gold.map((_, i) => i)))
  const threshold = seen - TIE * Math.abs(seen)
  const rng = createRng(0, STREAM_ANSWERS)
  let numAsHigh = 0
  for (let draw = 0; draw < NUM_DRAWS; draw++) {
    if (sumOf(sets.map(({ gold }) => permutation(gold.length, rng))) >= threshold) numAsHigh++
  }
  return (1 + numAsHigh) / (1 + NUM_DRAWS)
}
