import { applyBias, checkExamples, meanLogProb, type LabelLogProbs } from './label-log-probs.ts'

/**
 * Weight of the squared bias. It keeps the bias finite if the labels are separable. With twenty
 * examples it shrinks the bias by about a tenth.
 */
export const BIAS_RIDGE = 0.01
/** Twenty examples of four labels converge in about 100 steps. */
const MAX_STEPS = 200
const TOLERANCE = 1e-6
/** Largest eigenvalue of the second derivative of log softmax in its logits. */
const MAX_CURVATURE = 0.5

/**
 * Fits the bias b that maximises mean log P(right label | b) − BIAS_RIDGE·|b|². The objective is
 * concave, so it has one maximum. A bound on the curvature makes every step go uphill.
 * @param logProbs [examples][labels]
 * @param gold right label of each example
 * @returns bias [labels], natural log
 * @throws {RangeError} no examples, or the lengths differ
 * Source: Böhning 1992, Multinomial logistic regression algorithm (the curvature bound)
 */
export function fitLabelBias(logProbs: LabelLogProbs, gold: readonly number[]): number[] {
  checkExamples(logProbs, gold)
  const numLabels = logProbs[0]!.length
  const bias = new Array<number>(numLabels).fill(0)
  const stepSize = 1 / (MAX_CURVATURE + 2 * BIAS_RIDGE)
  for (let step = 0; step < MAX_STEPS; step++) {
    const slope = bias.map((value) => -2 * BIAS_RIDGE * value)
    for (const [i, row] of applyBias(logProbs, bias).entries()) {
      for (let label = 0; label < numLabels; label++) {
        const target = label === gold[i] ? 1 : 0
        slope[label]! += (target - Math.exp(row[label]!)) / logProbs.length
      }
    }
    let largest = 0
    for (let label = 0; label < numLabels; label++) {
      bias[label]! += stepSize * slope[label]!
      largest = Math.max(largest, Math.abs(stepSize * slope[label]!))
    }
    if (largest < TOLERANCE) break
  }
  return bias
}

/**
 * The value of a candidate in a search: the mean log probability of the right labels under the bias
 * that fits the candidate best. The search therefore spends no trials on errors that a bias corrects.
 * @param logProbs the candidate's, [examples][labels]
 * @param gold right label of each example
 * @returns natural log, at most 0; higher is better
 * @throws {RangeError} no examples, or the lengths differ
 */
export function biasedMeanLogProb(logProbs: LabelLogProbs, gold: readonly number[]): number {
  const bias = fitLabelBias(logProbs, gold)
  const penalty = BIAS_RIDGE * bias.reduce((sum, value) => sum + value * value, 0)
  return meanLogProb(applyBias(logProbs, bias), gold) - penalty
}
