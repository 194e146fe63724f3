import type { Confidence } from '../protocol/openai/confidence.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import type { LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from './compose.ts'

/**
 * Labels' probabilities as they are served: the runner's, which have the bias, under the
 * selection's temperature. Their order stays, so the answer does.
 */
export function calibrateLabels(
  labels: readonly LabelProbability[],
  selection: Pick<ResolvedSelection, 'temperature'> | null,
): readonly LabelProbability[] {
  const temperature = selection?.temperature ?? 1
  if (temperature === 1) return labels
  const scores = labels.map(({ probability }) => Math.log(probability) / temperature)
  const largest = Math.max(...scores)
  const weights = scores.map((score) => Math.exp(score - largest))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return labels.map((label, i) => ({ ...label, probability: weights[i]! / total }))
}

/**
 * When an answer is withheld: as the request says, or else as the task does. A request without a
 * fallback of its own keeps the task's.
 * @throws {ApiError} 400 where the answer is free text, which has no such probability
 */
export function confidenceOf(
  asked: Confidence | null,
  selection: ResolvedSelection | null,
  labels: readonly string[] | null,
): Confidence | null {
  if (labels === null) {
    if (asked === null) return null
    throw invalidRequest(
      'arcana.min_confidence is of answers that are one of a task’s labels; this answer is free text.',
      'arcana.min_confidence',
      'unsupported_parameter',
    )
  }
  const own = selection?.confidence ?? null
  if (asked === null) return own
  return { min: asked.min, fallbackLabel: asked.fallbackLabel ?? own?.fallbackLabel ?? null }
}

/** @param labels as served: calibrated */
export const isWithheld = (
  labels: readonly LabelProbability[] | undefined,
  confidence: Confidence | null,
): boolean =>
  confidence !== null &&
  labels !== undefined &&
  Math.max(...labels.map(({ probability }) => probability)) < confidence.min
