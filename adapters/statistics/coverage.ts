import { checkExamples, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { predictLabels } from './classification.ts'

/** What answering only from a confidence on would give. */
export type CoveragePoint = {
  /** Least probability of the likeliest label at which an answer is given. */
  readonly minConfidence: number
  /** Share of the examples that are answered. */
  readonly coverage: number
  /** Share of the answered that are right. */
  readonly accuracy: number
}

/** Points of a curve: more than this many are thinned, evenly by coverage. */
const MAX_POINTS = 20

/**
 * Accuracy against coverage, from everything answered down to the surest answers alone.
 * @returns at most 20 points, coverage falling; one a distinct confidence
 * @throws {RangeError} no examples, or lengths that differ
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
