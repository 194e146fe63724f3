import { applyBias, checkExamples, meanLogProb, type LabelLogProbs } from './label-log-probs.ts'

/**
 * Weight of the squared bias. It keeps the bias finite where the labels are separable, and at twenty
 * examples pulls it in by about a tenth.
 */
export const BIAS_RIDGE = 0.01
/** Each step of a bound's minimiser; twenty examples of four labels settle in about 100. */
const MAX_STEPS = 200
const TOLERANCE = 1e-6
/** Largest eigenvalue of the second derivative of log softmax in its logits. */
const MAX_CURVATURE = 0.5

/**
 * The bias that makes the right labels likeliest: the maximum over b of
 * mean log P(right label | b) − BIAS_RIDGE·|b|². Concave, so the answer is one and the same from
 * anywhere; found by steps that a bound on the curvature makes monotone.
 * @param logProbs [examples][labels]
 * @param gold right label of each example
 * @returns bias [labels], natural log
 * @throws {RangeError} no examples, or lengths that differ
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
 * A candidate's value to a search: what its examples' right labels are worth once the bias that suits
 * the candidate best is added. So a search spends nothing on what a bias alone would mend.
 * @returns natural log, at most 0; higher is better
 */
export function biasedMeanLogProb(logProbs: LabelLogProbs, gold: readonly number[]): number {
  const bias = fitLabelBias(logProbs, gold)
  const penalty = BIAS_RIDGE * bias.reduce((sum, value) => sum + value * value, 0)
  return meanLogProb(applyBias(logProbs, bias), gold) - penalty
}
