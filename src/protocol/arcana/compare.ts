import { z } from 'zod'
import {
  maxTokensSchema,
  messagesSchema,
  type ArcanaProof,
  type FinishReason,
  type Usage,
} from '../openai/chat-completions.ts'
import { seedSchema, temperatureSchema } from '../openai/sampling.ts'
import { MAX_ARMS, type LabelProbability } from '../runner.ts'

export const compareSchema = z.strictObject({
  /** The base model's slug; the arms name the tasks. */
  model: z.string().min(1).optional(),
  messages: messagesSchema,
  arms: z.array(z.string().min(1)).min(1).max(MAX_ARMS),
  max_tokens: maxTokensSchema.optional(),
  seed: seedSchema.optional(),
  temperature: temperatureSchema.optional(),
})

export type ComparedArm = {
  readonly index: number
  /** The request's text for it. */
  readonly arm: string
  readonly message: { readonly role: 'assistant'; readonly content: string }
  /** Null if the answer is free text. */
  readonly labels: readonly LabelProbability[] | null
  readonly finish_reason: FinishReason
  readonly usage: Usage
  /** The first token, by index, that differs from arm 0's; null if none does, and for arm 0. */
  readonly first_diverging_token: number | null
  readonly first_token_ms: number
  readonly total_ms: number
  readonly arcana: ArcanaProof
}

export type Comparison = {
  readonly id: string
  readonly object: 'arcana.comparison'
  readonly created: number
  readonly model: string
  /** All arms have this seed. */
  readonly seed: number
  /** All arms have this frame, which is the task's of `arm`; null if no arm has a task. */
  readonly frame: {
    readonly arm: number
    readonly task: string
    readonly version: number
    readonly instructions: string | null
    readonly position: 'before' | 'after'
    readonly labels: readonly string[] | null
    /** Whether the caller's own system message replaced the instructions. */
    readonly replaced: boolean
  } | null
  readonly num_prefills: number
  readonly arms: readonly ComparedArm[]
  readonly latency_ms: number
}
