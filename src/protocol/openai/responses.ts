/** Answers of `POST /v1/responses`, whole and as events. */
import { hexId } from './hex-id.ts'
import type { ServiceTier } from '../runner.ts'
import type { ArcanaProof, ChatLogprobs, Usage } from './chat-completions.ts'
import type { ApiError } from './error.ts'

type Status = 'in_progress' | 'completed' | 'incomplete'
export type ItemStatus = Status
type TokenLogprobs = ChatLogprobs['content']

export type OutputText = {
  readonly type: 'output_text'
  readonly text: string
  readonly annotations: readonly []
  /** Empty where none were asked for. */
  readonly logprobs: TokenLogprobs
}

export type OutputItem =
  | {
      readonly type: 'message'
      readonly id: string
      readonly status: Status
      readonly role: 'assistant'
      /** Empty where an unsure answer is withheld. */
      readonly content: readonly OutputText[]
    }
  | {
      readonly type: 'function_call'
      readonly id: string
      readonly status: Status
      readonly call_id: string
      readonly name: string
      /** JSON as the model wrote it. */
      readonly arguments: string
    }

export type ResponseUsage = {
  readonly input_tokens: number
  readonly input_tokens_details: {
    /** How many of the prompt's tokens an earlier request had computed. */
    readonly cached_tokens: number
    /** OpenAI charges for these; this gateway charges for nothing. */
    readonly cache_write_tokens: 0
  }
  readonly output_tokens: number
  readonly output_tokens_details: { readonly reasoning_tokens: 0 }
  readonly total_tokens: number
}

export const toResponseUsage = (usage: Usage): ResponseUsage => ({
  input_tokens: usage.prompt_tokens,
  input_tokens_details: {
    cached_tokens: usage.prompt_tokens_details.cached_tokens,
    cache_write_tokens: 0,
  },
  output_tokens: usage.completion_tokens,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: usage.total_tokens,
})

/** The settings of a request, which its answer repeats. */
export type ResponseSettings = {
  readonly instructions: string | null
  readonly max_output_tokens: number | null
  readonly metadata: Readonly<Record<string, string>>
  readonly parallel_tool_calls: boolean
  readonly text: { readonly format: { readonly type: string } }
  readonly tool_choice: string | { readonly type: 'function'; readonly name: string }
  readonly tools: readonly {
    readonly type: 'function'
    readonly name: string
    readonly description: string | null
    readonly parameters: Readonly<Record<string, unknown>> | null
    readonly strict: boolean
  }[]
  readonly top_logprobs: number
  readonly top_p: number
}

export type ResponseObject = ResponseSettings & {
  readonly id: string
  readonly object: 'response'
  readonly created_at: number
  readonly completed_at: number | null
  readonly status: Status | 'failed'
  readonly error: ResponseError | null
  readonly incomplete_details: { readonly reason: 'max_output_tokens' } | null
  readonly model: string
  readonly output: readonly OutputItem[]
  readonly temperature: number
  readonly usage: ResponseUsage | null
  /** Absent unless the request named one. */
  readonly service_tier?: ServiceTier
  readonly background: false
  readonly max_tool_calls: null
  readonly previous_response_id: null
  readonly reasoning: { readonly effort: null; readonly summary: null }
  /** No answer is kept. */
  readonly store: false
  readonly truncation: 'disabled'
  readonly arcana: ArcanaProof
}

/** Of OpenAI's codes, these two fit what can go wrong here. */
export type ResponseError = {
  readonly code: 'server_error' | 'rate_limit_exceeded'
  readonly message: string
}

export const toResponseError = ({ status, message }: ApiError): ResponseError => ({
  code: status === 429 ? 'rate_limit_exceeded' : 'server_error',
  message,
})

type OfItem = { readonly output_index: number; readonly item_id: string }
type OfPart = OfItem & { readonly content_index: 0 }

/** An event without its number; `ResponseWriter` adds that. */
export type ResponseEventBody =
  | {
      readonly type: `response.${'created' | 'in_progress' | 'completed' | 'incomplete' | 'failed'}`
      readonly response: ResponseObject
    }
  | {
      readonly type: `response.output_item.${'added' | 'done'}`
      readonly output_index: number
      readonly item: OutputItem
    }
  | (OfPart & {
      readonly type: `response.content_part.${'added' | 'done'}`
      readonly part: OutputText
    })
  | (OfPart & {
      readonly type: 'response.output_text.delta'
      readonly delta: string
      readonly logprobs: TokenLogprobs
    })
  | (OfPart & {
      readonly type: 'response.output_text.done'
      readonly text: string
      readonly logprobs: TokenLogprobs
    })
  | (OfItem & {
      readonly type: 'response.function_call_arguments.delta'
      readonly delta: string
    })
  | (OfItem & {
      readonly type: 'response.function_call_arguments.done'
      readonly name: string
      readonly arguments: string
    })

export type ResponseEvent = ResponseEventBody & { readonly sequence_number: number }

export const createMessageId = (): string => `msg_${hexId()}`
export const createCallItemId = (): string => `fc_${hexId()}`
