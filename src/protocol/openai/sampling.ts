/** How tokens are drawn: the fields that chats, responses and text completions share. */
import { z } from 'zod'
import type { ServiceTier } from '../runner.ts'
import { serviceTierOf, type serviceTierField } from './service-tier.ts'
import {
  MAX_ABS_LOGIT_BIAS,
  MAX_ABS_PENALTY,
  MAX_ARMS,
  MAX_LOGIT_BIAS_ENTRIES,
  MAX_REPETITION_PENALTY,
  MAX_STOP_STRINGS,
  type Sampling,
} from '../runner.ts'

export const temperatureSchema = z.number().min(0).max(2)
/** OpenAI takes any integer; the runner's generator takes its lowest 32 bits. */
export const seedSchema = z.int().transform((seed) => seed >>> 0)

const stopSchema = z.union(
  [
    z
      .string()
      .min(1)
      .transform((stop) => [stop]),
    z.array(z.string().min(1)).max(MAX_STOP_STRINGS),
  ],
  { error: `must be a string or an array of at most ${MAX_STOP_STRINGS} strings, none empty` },
)

const penaltySchema = z.number().min(-MAX_ABS_PENALTY).max(MAX_ABS_PENALTY)

/** A JSON object whose keys are token ids. The runner checks that the vocabulary has them. */
const logitBiasSchema = z
  .unknown()
  // Counted first: a body has room for very many entries.
  .refine(
    (bias) => numKeys(bias) <= MAX_LOGIT_BIAS_ENTRIES,
    `must have at most ${MAX_LOGIT_BIAS_ENTRIES} entries`,
  )
  .pipe(
    z.record(
      z.string().regex(/^\d{1,9}$/, 'must have token ids for keys'),
      z.number().min(-MAX_ABS_LOGIT_BIAS).max(MAX_ABS_LOGIT_BIAS),
    ),
  )
  .meta({
    type: 'object',
    maxProperties: MAX_LOGIT_BIAS_ENTRIES,
    propertyNames: { pattern: '^\\d{1,9}$' },
    additionalProperties: {
      type: 'number',
      minimum: -MAX_ABS_LOGIT_BIAS,
      maximum: MAX_ABS_LOGIT_BIAS,
    },
    description: 'Token ids, and what is added to their logits.',
  })
const numKeys = (value: unknown): number =>
  typeof value === 'object' && value !== null ? Object.keys(value).length : 0

export const samplingFields = {
  temperature: temperatureSchema.optional(),
  top_p: z.number().gt(0).max(1).default(1),
  seed: seedSchema.optional(),
  stop: stopSchema.default([]),
  n: z.int().min(1).max(MAX_ARMS).default(1),
  presence_penalty: penaltySchema.default(0),
  frequency_penalty: penaltySchema.default(0),
  logit_bias: logitBiasSchema.default({}),
  // OpenAI does not have these; the names are vLLM's. 0 and −1 turn top_k off.
  top_k: z.int().min(-1).default(0),
  min_p: z.number().min(0).max(1).default(0),
  repetition_penalty: z.number().gt(0).max(MAX_REPETITION_PENALTY).default(1),
}
type SamplingBody = z.output<z.ZodObject<typeof samplingFields>>

/**
 * The part of a runner's sampling that few requests use. A field that would change nothing is
 * absent.
 */
export type TokenShaping = Pick<
  Sampling,
  | 'top_k'
  | 'min_p'
  | 'presence_penalty'
  | 'frequency_penalty'
  | 'repetition_penalty'
  | 'logit_bias'
  | 'logprobs'
>

/** @param logprobs how many likeliest tokens to report beside each token; null reports nothing */
function tokenShapingOf(body: SamplingBody, logprobs: number | null): TokenShaping {
  const bias = Object.entries(body.logit_bias).map(([id, value]): [number, number] => [
    Number(id),
    value,
  ])
  return {
    ...(body.top_k > 0 ? { top_k: body.top_k } : {}),
    ...(body.min_p > 0 ? { min_p: body.min_p } : {}),
    ...(body.presence_penalty !== 0 ? { presence_penalty: body.presence_penalty } : {}),
    ...(body.frequency_penalty !== 0 ? { frequency_penalty: body.frequency_penalty } : {}),
    ...(body.repetition_penalty !== 1 ? { repetition_penalty: body.repetition_penalty } : {}),
    ...(bias.length > 0 ? { logit_bias: bias } : {}),
    ...(logprobs === null ? {} : { logprobs }),
  }
}

/** `stream` and its options, and the rule that binds them. */
export const streamFields = {
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().default(false),
      // OpenAI pads its events against traffic analysis; this gateway never does.
      include_obfuscation: z.boolean().optional(),
    })
    .optional(),
}

export function checkStreamOptions(
  body: { readonly stream: boolean; readonly stream_options?: object | undefined },
  context: z.RefinementCtx,
): void {
  if (body.stream_options === undefined || body.stream) return
  context.addIssue({
    code: 'custom',
    path: ['stream_options'],
    message: 'is only allowed when stream is true',
  })
}

/** What every request for an answer has. */
export type CommonRequest = {
  readonly model: string
  /** If undefined, `tasks/plan.ts` chooses: 0 for a choice of labels, else 1. */
  readonly temperature: number | undefined
  readonly topP: number
  readonly seed: number | undefined
  readonly stop: readonly string[]
  /** How many answers to give to each prompt. */
  readonly n: number
  readonly shaping: TokenShaping
  readonly tier: ServiceTier | undefined
  readonly stream: boolean
  readonly includeUsage: boolean
}

/** @param logprobs as for {@link tokenShapingOf} */
export function commonRequestOf(
  body: SamplingBody &
    z.output<z.ZodObject<typeof streamFields>> & {
      readonly model: string
      readonly service_tier?: z.output<typeof serviceTierField>
    },
  logprobs: number | null,
): CommonRequest {
  return {
    model: body.model,
    temperature: body.temperature,
    topP: body.top_p,
    seed: body.seed,
    stop: body.stop,
    n: body.n,
    shaping: tokenShapingOf(body, logprobs),
    tier: serviceTierOf(body.service_tier),
    stream: body.stream,
    includeUsage: body.stream_options?.include_usage ?? false,
  }
}
