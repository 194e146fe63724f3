/** `POST /v1/completions` continues or scores given text or tokens. */
import { z } from 'zod'
import { MAX_TOP_LOGPROBS, type PromptToken, type ServiceTier } from '../runner.ts'
import type { ArcanaProof, FinishReason, Usage } from './chat-completions.ts'
import {
  checkStreamOptions,
  commonRequestOf,
  samplingFields,
  streamFields,
  type CommonRequest,
} from './sampling.ts'
import { serviceTierField } from './service-tier.ts'
import { IGNORED_EVERYWHERE, refuseUnsupported, type Unsupported } from './unsupported.ts'

/** Each prompt becomes a request to a runner. */
const MAX_PROMPTS = 128
/** OpenAI's default. */
const DEFAULT_MAX_TOKENS = 16

const UNSUPPORTED: Unsupported = {
  response_format: z.looseObject({ type: z.literal('text') }),
  suffix: z.literal(''),
}
/** Fields that a request may have and that the schema below does not read. */
export const UNREAD_OF_COMPLETIONS: Unsupported = { ...UNSUPPORTED, ...IGNORED_EVERYWHERE }

export type Prompt = string | readonly number[]

/** Checked by hand: a body has room for half a million ids, and zod would report as many faults. */
const idsSchema = z
  .custom<readonly number[]>(
    (value) => Array.isArray(value) && value.length > 0 && value.every(isId),
  )
  .meta({ type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 })
const isId = (id: unknown): boolean => Number.isSafeInteger(id) && (id as number) >= 0
const promptSchema = z.union(
  [
    z
      .string()
      .min(1)
      .transform((text): readonly Prompt[] => [text]),
    idsSchema.transform((ids): readonly Prompt[] => [ids]),
    z.array(z.string().min(1)).min(1).max(MAX_PROMPTS),
    z.array(idsSchema).min(1).max(MAX_PROMPTS),
  ],
  {
    error:
      'must be a string, an array of token ids, or an array of at most ' +
      `${MAX_PROMPTS} of either kind, none empty`,
  },
)

const bodySchema = z.strictObject({
  model: z.string().min(1),
  prompt: promptSchema,
  max_tokens: z.int().min(0).default(DEFAULT_MAX_TOKENS),
  logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).optional(),
  echo: z.boolean().default(false),
  best_of: z.int().optional(),
  // OpenAI has tiers for chats only. Here batches of prompts may ask for `flex`.
  service_tier: serviceTierField,
  // OpenAI does not have this: the first prompt token that a task's adapter rotates, one or one a
  // prompt.
  rotate_from: z
    .union([z.int().min(0), z.array(z.int().min(0)).max(MAX_PROMPTS)], {
      error: 'must be a token index, or one for each prompt',
    })
    .optional(),
  ...samplingFields,
  ...streamFields,
})

export type CompletionRequest = CommonRequest & {
  readonly prompts: readonly Prompt[]
  /** One for each prompt. */
  readonly rotateFrom: readonly number[] | undefined
  readonly echo: boolean
  readonly maxTokens: number
}

export const completionRequestSchema = bodySchema.transform((body, context): CompletionRequest => {
  const reject = (path: string, message: string) => {
    context.addIssue({ code: 'custom', path: [path], message })
  }
  checkStreamOptions(body, context)
  if (body.best_of !== undefined && body.best_of !== body.n) {
    reject('best_of', 'is only supported where it equals n: every answer is given')
  }
  const { prompt: prompts, rotate_from: from } = body
  if (Array.isArray(from) && from.length !== prompts.length) {
    reject('rotate_from', `has ${from.length} indices for ${prompts.length} prompts`)
  }
  const perPrompt = typeof from === 'number' ? prompts.map(() => from) : from
  return {
    ...commonRequestOf(body, body.logprobs ?? null),
    prompts,
    rotateFrom: perPrompt,
    echo: body.echo,
    maxTokens: body.max_tokens,
  }
})

/** @throws {ApiError} 400 naming a field that is not served */
export const withoutUnsupportedOfCompletions = (body: Record<string, unknown>) =>
  refuseUnsupported(body, UNSUPPORTED)

/** One entry for each token of the prompt and the answer. All arrays have the same length. */
export type CompletionLogprobs = {
  readonly tokens: readonly string[]
  /** Null for a prompt's first token. */
  readonly token_logprobs: readonly (number | null)[]
  /** The likeliest tokens and the actual one; null for a prompt's first token. */
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[]
  /** Where each token's text begins in the choice's text, in UTF-16 units. */
  readonly text_offset: readonly number[]
}

export type CompletionChoice = {
  readonly text: string
  readonly index: number
  readonly logprobs: CompletionLogprobs | null
  readonly finish_reason: FinishReason | null
}

export type Completion = {
  readonly id: string
  readonly object: 'text_completion'
  readonly created: number
  readonly model: string
  readonly choices: readonly CompletionChoice[]
  readonly usage?: Usage | null
  /** Absent unless the request named one. */
  readonly service_tier?: ServiceTier
  readonly arcana?: ArcanaProof
}

/** Writes the log probabilities of one choice and counts its text as it goes. */
export class LogprobsWriter {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: false })
  #offset = 0

  /**
   * @param isShown false for the control token that ends an answer, which its text does not contain
   */
  write(positions: readonly PromptToken[], isShown = true): CompletionLogprobs {
    return {
      tokens: positions.map(nameOf),
      token_logprobs: positions.map(({ logprob }) => logprob),
      top_logprobs: positions.map(topOf),
      text_offset: positions.map(({ bytes }) => {
        const offset = this.#offset
        if (isShown) {
          this.#offset += this.#decoder.decode(Uint8Array.from(bytes), { stream: true }).length
        }
        return offset
      }),
    }
  }
}

export const joinLogprobs = (parts: readonly CompletionLogprobs[]): CompletionLogprobs => ({
  tokens: parts.flatMap(({ tokens }) => tokens),
  token_logprobs: parts.flatMap((part) => part.token_logprobs),
  top_logprobs: parts.flatMap((part) => part.top_logprobs),
  text_offset: parts.flatMap((part) => part.text_offset),
})

function topOf({ top, logprob, ...token }: PromptToken): Record<string, number> | null {
  if (logprob === null) return null
  return Object.fromEntries(
    [...top, { ...token, logprob }].map((entry) => [nameOf(entry), entry.logprob]),
  )
}

const hex = (byte: number) => `\\x${byte.toString(16).padStart(2, '0')}`

/** OpenAI's name for a token: its text, or its bytes if it holds only part of a character. */
const nameOf = ({ token, bytes }: Pick<PromptToken, 'token' | 'bytes'>): string =>
  token.includes('\uFFFD') ? `bytes:${bytes.map(hex).join('')}` : token
