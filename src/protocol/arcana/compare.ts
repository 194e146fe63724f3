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
  /** As the request named it. */
  readonly arm: string
  readonly message: { readonly role: 'assistant'; readonly content: string }
  /** Null where the answers are free text. */
  readonly labels: readonly LabelProbability[] | null
  readonly finish_reason: FinishReason
  readonly usage: Usage
  /** Index of the first token that differs from arm 0's; null where none does, and for arm 0. */
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
  /** The one seed of all arms. */
  readonly seed: number
  /** The one frame of all arms, and the arm whose task gave it; null where no arm has a task. */
  readonly frame: {
    readonly arm: number
    readonly task: string
    readonly version: number
    readonly instructions: string | null
    readonly position: 'before' | 'after'
    readonly labels: readonly string[] | null
    /** The caller's own system message stands in the place of the instructions. */
    readonly replaced: boolean
  } | null
  readonly num_prefills: number
  readonly arms: readonly ComparedArm[]
  readonly latency_ms: number
}
