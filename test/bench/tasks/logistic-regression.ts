import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'

/** Weight of half the squared weights against the summed loss, as 1/C of C = 1. */
const RIDGE = 1
const NUM_STEPS = 2000
const STEP_SIZE = 0.5

/**
 * Multinomial logistic regression on the base model's label log probabilities, standardised: what a
 * few examples are worth without touching the model. Gradient descent on a smooth convex loss, to
 * its end.
 * @param train [examples][labels]
 * @param gold right label of each
 * @returns log probabilities of `rows`, [rows][labels]
 */
export function logisticRegression(
  train: LabelLogProbs,
  gold: readonly number[],
  rows: LabelLogProbs,
): number[][] {
  const numLabels = train[0]!.length
  const mean = train[0]!.map((_, k) => average(train.map((row) => row[k]!)))
  const deviation = mean.map((center, k) =>
    Math.sqrt(average(train.map((row) => (row[k]! - center) ** 2))),
  )
  const featuresOf = (row: readonly number[]): number[] => [
    ...row.map((value, k) => (value - mean[k]!) / (deviation[k]! || 1)),
    1,
  ]
  const features = train.map(featuresOf)
  const weights = Array.from({ length: numLabels }, () => new Array<number>(numLabels + 1).fill(0))
  for (let step = 0; step < NUM_STEPS; step++) {
    const probabilities = features.map((row) => predict(weights, row).map(Math.exp))
    for (const [label, own] of weights.entries()) {
      const slope = own.map((weight, k) => {
        // The intercept is free.
        const penalty = k < numLabels ? RIDGE * weight : 0
        const fit = features.reduce(
          (sum, row, i) =>
            sum + ((gold[i] === label ? 1 : 0) - probabilities[i]![label]!) * row[k]!,
          0,
        )
        return (fit - penalty) / features.length
      })
      for (const k of own.keys()) own[k]! += STEP_SIZE * slope[k]!
    }
  }
  return rows.map((row) => predict(weights, featuresOf(row)))
}

function predict(weights: readonly (readonly number[])[], features: readonly number[]): number[] {
  const scores = weights.map((own) =>
    own.reduce((sum, weight, k) => sum + weight * features[k]!, 0),
  )
  const largest = Math.max(...scores)
  const logSum = largest + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - largest), 0))
  return scores.map((value) => value - logSum)
}

const average = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
