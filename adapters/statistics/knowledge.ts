import { LOG_PROB_FLOOR, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { createRng, permutation } from '../optimise/rng.ts'

/** Draws of the test: a p-value near 0.05 is known to ±0.01, and 2,000 examples take a second. */
const NUM_DRAWS = 1_999
/** Stream of the generator; the draws are the same for all data, so a test repeated is repeated. */
const STREAM_ANSWERS = 23
/** Sums this near, as a share of all terms' size, are equal: rounding must not decide. */
const TIE = 1e-9

/** Answers of a model to one set of labelled examples. */
export type AnsweredSet = {
  readonly logProbs: LabelLogProbs
  /** Right label of each example. */
  readonly gold: readonly number[]
}

/**
 * Whether a model's answers have anything to do with the right ones: how often its log probability of
 * the right labels is as high, in sum, where the right labels are dealt out anew among each set's
 * examples. One-sided, and exact but for the draws: nothing is assumed but that a model that knows
 * nothing of a task would do as well with any other order of its labels.
 *
 * A label bias adds the same to every order, so the p-value is that of the calibrated model too, and a
 * model that prefers one label whatever it reads is not taken for one that knows.
 * @returns in (0, 1]
 * @throws {RangeError} no examples, or lengths that differ
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
      throw new RangeError(`${logProbs.length} rows for ${gold.length} labels`)
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
