import type { Confidence } from '../protocol/openai/confidence.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import type { LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from './compose.ts'

/**
 * Applies the selection's temperature to the labels' probabilities, which have the bias already. It
 * does not change their order, and so not the answer.
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
 * When an answer is withheld: as the request says, or else as the task says. If the request has no
 * fallback, the task's applies.
 * @throws {ApiError} 400 if the answer is free text, which has no such probability
 */
export function confidenceOf(
  asked: Confidence | null,
  selection: ResolvedSelection | null,
  labels: readonly string[] | null,
): Confidence | null {
  if (labels === null) {
    if (asked === null) return null
    throw invalidRequest(
      'arcana.min_confidence applies only to answers that are one of a task’s labels; this answer is free text.',
      'arcana.min_confidence',
      'unsupported_parameter',
    )
  }
  const own = selection?.confidence ?? null
  if (asked === null) return own
  return { min: asked.min, fallbackLabel: asked.fallbackLabel ?? own?.fallbackLabel ?? null }
}

/** @param labels the labels' probabilities under the selection's temperature */
export const isWithheld = (
  labels: readonly LabelProbability[] | undefined,
  confidence: Confidence | null,
): boolean =>
  confidence !== null &&
  labels !== undefined &&
  Math.max(...labels.map(({ probability }) => probability)) < confidence.min
