/** `POST /v1/chat/completions`: what a request may say, what is refused by name, and the answers. */
import { hexId } from './hex-id.ts'
import { z } from 'zod'
import {
  MAX_TOP_LOGPROBS,
  type LabelProbability,
  type ChatMessage,
  type PositionLogprob,
  type Scope,
  type ServiceTier,
} from '../runner.ts'
import { arcanaField, confidenceIn, type Confidence } from './confidence.ts'
import { responseFormatSchema, type RunnerResponseFormat } from '../response-format.ts'
import { chatMessagesSchema } from './messages.ts'
import {
  checkStreamOptions,
  commonRequestOf,
  samplingFields,
  streamFields,
  type CommonRequest,
} from './sampling.ts'
import { serviceTierField } from './service-tier.ts'
import type { RunnerTools } from '../tools.ts'
import { toolFields, toolsOf } from './tools.ts'
import {
  emptyArray,
  IGNORED_EVERYWHERE,
  nothing,
  refuseUnsupported,
  type Unsupported,
} from './unsupported.ts'

const UNSUPPORTED: Unsupported = {
  audio: nothing,
  function_call: z.literal('none'),
  functions: emptyArray,
  modalities: z.array(z.literal('text')).length(1),
  moderation: nothing,
  prediction: nothing,
  web_search_options: nothing,
}
/** These change nothing: no model here has an effort or a verbosity, and no answer is stored. */
const IGNORED: Unsupported = {
  ...IGNORED_EVERYWHERE,
  reasoning_effort: z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh']),
  store: z.literal(false),
  verbosity: z.enum(['low', 'medium', 'high']),
}
/** Fields that a chat may have and that the schema below does not read. */
export const UNREAD_OF_CHATS: Unsupported = { ...UNSUPPORTED, ...IGNORED }

export { messagesSchema } from './messages.ts'
export const maxTokensSchema = z.int().min(1)

const bodySchema = z.strictObject({
  model: z.string().min(1),
  messages: chatMessagesSchema,
  max_tokens: maxTokensSchema.optional(),
  max_completion_tokens: maxTokensSchema.optional(),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).optional(),
  response_format: responseFormatSchema.optional(),
  service_tier: serviceTierField,
  ...toolFields,
  ...samplingFields,
  ...streamFields,
  arcana: arcanaField,
})

export type ChatRequest = CommonRequest & {
  readonly messages: readonly ChatMessage[]
  readonly maxTokens: number | undefined
  /** The form that the answer must have; undefined means free text. */
  readonly responseFormat: RunnerResponseFormat | undefined
  /** The functions that the answer may call; undefined means none. */
  readonly tools: RunnerTools | undefined
  readonly confidence: Confidence | null
}

export const chatRequestSchema = bodySchema.transform((body, context): ChatRequest => {
  checkStreamOptions(body, context)
  if (
    body.max_tokens !== undefined &&
    body.max_completion_tokens !== undefined &&
    body.max_tokens !== body.max_completion_tokens
  ) {
    context.addIssue({
      code: 'custom',
      path: ['max_tokens'],
      message: 'differs from max_completion_tokens; give one of them',
    })
  }
  // Zero asks for nothing, so it is allowed.
  if ((body.top_logprobs ?? 0) > 0 && !body.logprobs) {
    context.addIssue({
      code: 'custom',
      path: ['top_logprobs'],
      message: 'is only allowed when logprobs is true',
    })
  }
  const tools = toolsOf(body, context)
  return {
    ...commonRequestOf(body, body.logprobs ? (body.top_logprobs ?? 0) : null),
    messages: body.messages,
    maxTokens: body.max_completion_tokens ?? body.max_tokens,
    responseFormat: body.response_format,
    tools,
    confidence: confidenceIn(body.arcana),
  }
})

/** @throws {ApiError} 400 naming a field that is not served */
export const withoutUnsupported = (body: Record<string, unknown>) =>
  refuseUnsupported(body, UNSUPPORTED, IGNORED)

/** The proof: what the runner applied to make an answer. */
export type ArcanaProof = {
  /** The selection in canonical form, or null for the base model. */
  readonly task: string | null
  /** Null for the base model and for a sum, where each adapter names its own. */
  readonly version: number | null
  readonly adapters: readonly {
    readonly digest: string
    readonly weight: number
    readonly task: string
    readonly version: number
  }[]
  readonly scope: Scope
  readonly layers: readonly number[]
  readonly model_digest: string
  readonly build_digest: string
  readonly runner: string
  /**
   * The labels' probabilities under the version's temperature; absent unless the answer is a label.
   */
  readonly labels?: readonly LabelProbability[]
  /** Absent unless the request or the task sets one. */
  readonly min_confidence?: number
  /** Whether the likeliest label was less probable. */
  readonly withheld?: boolean
}

export type Usage = {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  /** How many of the prompt's tokens an earlier request had computed. */
  readonly prompt_tokens_details: { readonly cached_tokens: number }
}

export type FinishReason = 'stop' | 'length' | 'tool_calls'

/** A call of a function. Its arguments are JSON, as the model wrote it. */
export type ChatToolCall = {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

/** A new id, in OpenAI's form. */
export const createToolCallId = (): string => `call_${hexId()}`

/** One token of an answer. `logprob` comes from the model's own distribution, before any shaping. */
export type ChatTokenLogprob = {
  readonly token: string
  readonly logprob: number
  readonly bytes: readonly number[]
}

export type ChatLogprobs = {
  readonly content: readonly (ChatTokenLogprob & {
    readonly top_logprobs: readonly ChatTokenLogprob[]
  })[]
  readonly refusal: null
}

export function toChatLogprobs(positions: readonly PositionLogprob[]): ChatLogprobs {
  const shown = ({ token, logprob, bytes }: ChatTokenLogprob) => ({ token, logprob, bytes })
  return {
    content: positions.map((position) => ({
      ...shown(position),
      top_logprobs: position.top.map(shown),
    })),
    refusal: null,
  }
}

export type ChatChoice = {
  readonly index: number
  readonly message: {
    readonly role: 'assistant'
    /** Null if an unsure answer is withheld, and if the answer only calls functions. */
    readonly content: string | null
    readonly refusal: null
    readonly tool_calls?: readonly ChatToolCall[]
  }
  readonly logprobs: ChatLogprobs | null
  readonly finish_reason: FinishReason
}

export type ChatCompletion = {
  readonly id: string
  readonly object: 'chat.completion'
  readonly created: number
  readonly model: string
  readonly choices: readonly [ChatChoice, ...ChatChoice[]]
  readonly usage: Usage
  /** Absent unless the request named one. */
  readonly service_tier?: ServiceTier
  readonly arcana: ArcanaProof
}

export type ChatDelta = {
  readonly role?: 'assistant'
  readonly content?: string | null
  readonly tool_calls?: readonly {
    readonly index: number
    /** Only a call's first delta has the id and the name. */
    readonly id?: string
    readonly type?: 'function'
    readonly function: { readonly name?: string; readonly arguments: string }
  }[]
}

export type ChatCompletionChunk = {
  readonly id: string
  readonly object: 'chat.completion.chunk'
  readonly created: number
  readonly model: string
  readonly choices: readonly {
    readonly index: number
    readonly delta: ChatDelta
    readonly logprobs: ChatLogprobs | null
    readonly finish_reason: FinishReason | null
  }[]
  readonly usage?: Usage | null
  readonly service_tier?: ServiceTier
  readonly arcana?: ArcanaProof
}
