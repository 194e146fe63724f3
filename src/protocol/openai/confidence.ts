/** When a task would rather not answer: in a job's method, and in a request's `arcana` object. */
import { z } from 'zod'
import { MAX_LABEL_CHARS } from '../runner.ts'

export const minConfidenceSchema = z.number().min(0).max(1)
/** May be none of the task's labels, as "unsure". */
export const fallbackLabelSchema = z.string().trim().min(1).max(MAX_LABEL_CHARS)

/** Answer only where the likeliest label has at least this probability. */
export type Confidence = {
  readonly min: number
  /** Said instead; null is no content. */
  readonly fallbackLabel: string | null
}

/** Adds an issue where a fallback has nothing to fall back from. */
export function checkConfidence(
  fields: {
    readonly min_confidence?: number | null | undefined
    readonly fallback_label?: string | null | undefined
  },
  context: z.RefinementCtx,
): void {
  if (fields.fallback_label == null || fields.min_confidence != null) return
  context.addIssue({
    code: 'custom',
    path: ['fallback_label'],
    message: 'needs a min_confidence',
  })
}

/** Of a request's body. Not OpenAI's: clients send it as an extra field. */
export const arcanaField = z
  .strictObject({
    min_confidence: minConfidenceSchema.nullish(),
    fallback_label: fallbackLabelSchema.nullish(),
  })
  .superRefine(checkConfidence)
  .optional()

/** @returns null where the request asks for none */
export const confidenceIn = (arcana: z.output<typeof arcanaField>): Confidence | null =>
  arcana?.min_confidence == null
    ? null
    : { min: arcana.min_confidence, fallbackLabel: arcana.fallback_label ?? null }
