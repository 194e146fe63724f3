import { LOG_PROB_FLOOR, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { createRng, type Rng } from '../optimise/rng.ts'

/** A p-value near 0.05 is then accurate to ±0.005, and 2,000 examples take a tenth of a second. */
export const NUM_PERMUTATIONS = 1_999
/** Stream of the generator. Its seed is fixed, so a repeated test gives the same p-value. */
const STREAM_LABELS = 24
/** Log odds are clipped at ±this, so that a few very sure mistakes do not outweigh many right answers. */
const MAX_LOG_ODDS = 2
/**
 * Each of two examples is in the training set of the other, so their out-of-fold scores are correlated.
 * Sums of the scores therefore vary √2 times as much as they do when the labels are permuted and the
 * predictions are kept.
 */
const WIDENING = Math.SQRT2
/** If the folds admit fewer orders, labels are permuted among all examples. */
const MIN_ORDERS = 1_000
/** Sums that differ by a smaller share of their size are equal, so that rounding does not decide. */
const TIE = 1e-9

export type LearntTest = {
  /** In (0, 1]. */
  readonly pValue: number
  /** Distance of the statistic from the null mean, in null standard deviations; 0 if they are 0. */
  readonly z: number
}

/**
 * Permutation test of whether out-of-fold predictions depend on the right labels.
 *
 * The statistic is the mean over classes of the right label's centred log odds: log probabilities less
 * their mean over the fold and over the labels, clipped at ±2. Labels are permuted within each fold.
 * A fold's training set has fewer of the fold's own labels, which biases its predictions against them;
 * within a fold that bias cancels. If the folds are too small, labels are permuted among all examples,
 * which is conservative. The null distribution is widened by √2.
 *
 * In simulations (docs/decisions/0010-guard.md) 1 to 5% of fits to unrelated labels pass at the 5%
 * level, with 2 to 10 classes and 7 to 200 examples.
 * @param predictions out of fold, [examples][labels]
 * @param gold right label of each example
 * @param folds fold of each example
 * @throws {RangeError} no examples, or the lengths differ
 */
export function learntTest(
  predictions: LabelLogProbs,
  gold: readonly number[],
  folds: readonly number[],
): LearntTest {
  const numExamples = gold.length
  if (numExamples === 0) throw new RangeError('no examples')
  if (predictions.length !== numExamples || folds.length !== numExamples) {
    throw new RangeError(
      `${predictions.length} predictions and ${folds.length} folds for ${numExamples} labels`,
    )
  }
  const byFold = groupBy(folds)
  const blocks = countOrders(byFold, gold) >= MIN_ORDERS ? byFold : [gold.map((_, i) => i)]
  const scores = scoreLabels(predictions, gold, blocks)
  const seen = gold.reduce((sum, label, i) => sum + scores[i]![label]!, 0)

  const rng = createRng(0, STREAM_LABELS)
  const labels = [...gold]
  const sums = new Float64Array(NUM_PERMUTATIONS)
  for (let draw = 0; draw < NUM_PERMUTATIONS; draw++) {
    for (const members of blocks) shuffleWithin(labels, members, rng)
    for (let i = 0; i < numExamples; i++) sums[draw]! += scores[i]![labels[i]!]!
  }
  const mean = sums.reduce((total, sum) => total + sum, 0) / sums.length
  const variance = sums.reduce((total, sum) => total + (sum - mean) ** 2, 0) / sums.length
  const spread = WIDENING * Math.sqrt(variance)
  const size = scores.reduce((total, row) => total + Math.max(...row.map(Math.abs)), 0)
  const threshold = seen - TIE * size
  const numAsHigh = sums.filter((sum) => mean + WIDENING * (sum - mean) >= threshold).length
  return {
    pValue: (1 + numAsHigh) / (1 + NUM_PERMUTATIONS),
    z: spread > TIE * size ? (seen - mean) / spread : 0,
  }
}

/** Indices of each value's members; values in the order of their first member. */
function groupBy(values: readonly number[]): number[][] {
  const members = new Map<number, number[]>()
  values.forEach((value, i) => {
    const known = members.get(value)
    if (known === undefined) members.set(value, [i])
    else known.push(i)
  })
  return [...members.values()]
}

/** What each label adds to the statistic if it is the right one, [examples][labels]. */
function scoreLabels(
  predictions: LabelLogProbs,
  gold: readonly number[],
  blocks: readonly (readonly number[])[],
): number[][] {
  const numLabels = predictions[0]!.length
  const counts = new Array<number>(numLabels).fill(0)
  for (const label of gold) counts[label]! += 1
  const numClasses = counts.filter((count) => count > 0).length
  return centre(predictions, blocks).map((row) =>
    row.map((odds, label) => (counts[label] === 0 ? 0 : odds / (counts[label]! * numClasses))),
  )
}

/**
 * The log odds of each label: log probabilities less their mean over the example's block and over the
 * labels, clipped at ±2.
 * @param rows log probabilities, or log odds, [examples][labels]
 * @param blocks block of each example, such as its fold, [examples]
 */
export const centreLogOdds = (rows: LabelLogProbs, blocks: readonly number[]): number[][] =>
  centre(rows, groupBy(blocks))

/** @param blocks the examples of each block, by index */
function centre(rows: LabelLogProbs, blocks: readonly (readonly number[])[]): number[][] {
  const numLabels = rows[0]!.length
  const scores = rows.map((row) => row.map((value) => Math.max(value, LOG_PROB_FLOOR)))
  for (const members of blocks) {
    for (let label = 0; label < numLabels; label++) {
      const mean = members.reduce((sum, i) => sum + scores[i]![label]!, 0) / members.length
      for (const i of members) scores[i]![label]! -= mean
    }
  }
  return scores.map((row) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / numLabels
    return row.map((value) => Math.max(-MAX_LOG_ODDS, Math.min(MAX_LOG_ODDS, value - mean)))
  })
}

/** Number of distinct orders of the labels within the folds, counted up to `MIN_ORDERS`. */
function countOrders(byFold: readonly (readonly number[])[], gold: readonly number[]): number {
  let orders = 1
  for (const members of byFold) {
    const seen = new Map<number, number>()
    members.forEach((i, place) => {
      const count = (seen.get(gold[i]!) ?? 0) + 1
      seen.set(gold[i]!, count)
      // The multinomial coefficient, one example at a time.
      orders *= (place + 1) / count
    })
    if (orders >= MIN_ORDERS) return MIN_ORDERS
  }
  return orders
}

/** Fisher-Yates shuffle of the labels at some places. */
function shuffleWithin(labels: number[], places: readonly number[], rng: Rng): void {
  for (let i = places.length - 1; i > 0; i--) {
    const j = Math.floor(rng.uniform() * (i + 1))
    const kept = labels[places[i]!]!
    labels[places[i]!] = labels[places[j]!]!
    labels[places[j]!] = kept
  }
}
