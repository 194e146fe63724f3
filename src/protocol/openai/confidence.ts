/**
 * When a task withholds an unsure answer: set in a job's method, or in a request's `arcana` object.
 */
import { z } from 'zod'
import { MAX_LABEL_CHARS } from '../runner.ts'

export const minConfidenceSchema = z.number().min(0).max(1)
/** Need not be one of the task's labels: "unsure", for example. */
export const fallbackLabelSchema = z.string().trim().min(1).max(MAX_LABEL_CHARS)

export type Confidence = {
  /** The task answers only if the likeliest label is at least this probable. */
  readonly min: number
  /** Replaces a withheld answer; null means that the answer has no content. */
  readonly fallbackLabel: string | null
}

/** Adds an issue where a fallback is given without the probability below which it is used. */
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

/** A request's `arcana`, which OpenAI does not have; clients send it as an extra field. */
export const arcanaField = z
  .strictObject({
    min_confidence: minConfidenceSchema.nullish(),
    fallback_label: fallbackLabelSchema.nullish(),
  })
  .superRefine(checkConfidence)
  .optional()

/** @returns null where the request sets none */
export const confidenceIn = (arcana: z.output<typeof arcanaField>): Confidence | null =>
  arcana?.min_confidence == null
    ? null
    : { min: arcana.min_confidence, fallbackLabel: arcana.fallback_label ?? null }
