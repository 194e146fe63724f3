import { checkExamples, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { predictLabels } from './classification.ts'

/** Coverage and accuracy if answers below a confidence are withheld. */
export type CoveragePoint = {
  /** Probability of the likeliest label below which the answer is withheld. */
  readonly minConfidence: number
  /** Share of the examples that are answered. */
  readonly coverage: number
  /** Share of the answered examples that are right. */
  readonly accuracy: number
}

/** A curve with more points is thinned, evenly by coverage. */
const MAX_POINTS = 20

/**
 * Accuracy against coverage, from all answers down to only the surest.
 * @param logProbs [examples][labels]
 * @param gold right label of each example
 * @returns at most 20 points with falling coverage, at most one per distinct confidence
 * @throws {RangeError} no examples, or the lengths differ
 * Source: El-Yaniv and Wiener 2010, selective classification
 */
export function accuracyByCoverage(
  logProbs: LabelLogProbs,
  gold: readonly number[],
): CoveragePoint[] {
  checkExamples(logProbs, gold)
  const answers = predictLabels(logProbs)
    .map((label, i) => ({
      confidence: Math.exp(logProbs[i]![label]!),
      isRight: label === gold[i],
    }))
    .sort((a, b) => b.confidence - a.confidence)
  const points: CoveragePoint[] = []
  let numRight = 0
  answers.forEach(({ confidence, isRight }, i) => {
    if (isRight) numRight++
    // Equally sure answers are given or withheld together.
    if (answers[i + 1]?.confidence === confidence) return
    const coverage = (i + 1) / answers.length
    points.push({ minConfidence: confidence, coverage, accuracy: numRight / (i + 1) })
  })
  points.reverse()
  if (points.length <= MAX_POINTS) return points
  return Array.from({ length: MAX_POINTS }, (_, i) => {
    return points[Math.round((i * (points.length - 1)) / (MAX_POINTS - 1))]!
  })
}
