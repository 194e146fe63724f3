/**
 * Messages between the gateway and a runner node. Those of jobs are in runner-scoring.ts.
 * Every call but `/healthz` carries `Authorization: Bearer <runner secret>`.
 * Wire keys are snake_case; binary bodies are little-endian.
 */
import { z } from 'zod'
import { runnerResponseFormatSchema } from './response-format.ts'
import { runnerToolsSchema, toolMessageSchemas } from './tools.ts'

/** Raised whenever a message changes in a way that an older peer would misread. */
export const RUNNER_PROTOCOL_VERSION = 8

/** Each arm takes a row of the decode batch, which has 16 by default. */
export const MAX_ARMS = 16
/** Most adapters that one selection composes. */
export const MAX_TERMS = 16
/** A larger weight must be a mistake: angles of ±π/4 already wrap around. */
export const MAX_ABS_WEIGHT = 64
/** Most labels of a choice (clinc150 has 150). */
export const MAX_LABELS = 200
export const MAX_LABEL_CHARS = 256
export const MAX_STOP_STRINGS = 4
/** Most alternatives that are reported beside a token's log probability; OpenAI's limit. */
export const MAX_TOP_LOGPROBS = 20
/** OpenAI's limit: beyond it a token is forced or banned anyway. */
export const MAX_ABS_LOGIT_BIAS = 100
export const MAX_LOGIT_BIAS_ENTRIES = 1024
export const MAX_ABS_PENALTY = 2
/** One day. */
export const MAX_TIMEOUT_MS = 86_400_000
/** Far past any useful value; 1 changes nothing. */
export const MAX_REPETITION_PENALTY = 10

export const DIGEST_PATTERN = /^[0-9a-f]{64}$/
export const digestSchema = z.string().regex(DIGEST_PATTERN)
export const scopeSchema = z.enum(['generated', 'all'])
export type Scope = z.infer<typeof scopeSchema>

/** A chat message as the model's template is given it. */
export const promptMessageSchema = z.object({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string(),
  /** Tells speakers of one role apart; most templates do not show it. */
  name: z.string().optional(),
})
export type PromptMessage = z.infer<typeof promptMessageSchema>

/** A message of a chat in which functions may have been called. */
export const chatMessageSchema = z.union([...toolMessageSchemas, promptMessageSchema])
export type ChatMessage = z.infer<typeof chatMessageSchema>

/** One adapter of a selection and the strength at which its angles are added. */
export const adapterTermSchema = z.object({
  digest: digestSchema,
  weight: z.number().min(-MAX_ABS_WEIGHT).max(MAX_ABS_WEIGHT),
})
export type AdapterTerm = z.infer<typeof adapterTermSchema>

/** One answer to the prompt. No adapters means the base model. */
export const armSchema = z.object({
  adapters: z.array(adapterTermSchema).max(MAX_TERMS),
  scope: scopeSchema,
  /** Added to the labels' log probabilities, in the order of `choice.labels`; all zero by default. */
  bias: z.array(z.number().min(-1e3).max(1e3)).max(MAX_LABELS).optional(),
  seed: z.number().int().min(0).max(0xffffffff).optional(),
  /**
   * First prompt position that is rotated, for a given text that is scored. By default the scope
   * decides. Under scope `all` only 0 is allowed.
   */
  rotate_from: z.number().int().min(0).optional(),
})
export type Arm = z.infer<typeof armSchema>

export const samplingSchema = z.object({
  /** Most tokens to generate; 0 only echoes the prompt. By default up to the context's end. */
  max_tokens: z.number().int().min(0).optional(),
  /** 0 is greedy. */
  temperature: z.number().min(0).max(2),
  top_p: z.number().gt(0).max(1),
  stop: z.array(z.string().min(1)).max(MAX_STOP_STRINGS),
  /** Draw among this many of the likeliest tokens; among all by default. */
  top_k: z.number().int().min(1).optional(),
  /** Draw among tokens that have at least this fraction of the likeliest token's probability. */
  min_p: z.number().min(0).max(1).optional(),
  presence_penalty: z.number().min(-MAX_ABS_PENALTY).max(MAX_ABS_PENALTY).optional(),
  frequency_penalty: z.number().min(-MAX_ABS_PENALTY).max(MAX_ABS_PENALTY).optional(),
  repetition_penalty: z.number().gt(0).max(MAX_REPETITION_PENALTY).optional(),
  /** Pairs of a token id and what is added to the token's logit. */
  logit_bias: z
    .array(
      z.tuple([
        z.number().int().min(0),
        z.number().min(-MAX_ABS_LOGIT_BIAS).max(MAX_ABS_LOGIT_BIAS),
      ]),
    )
    .max(MAX_LOGIT_BIAS_ENTRIES)
    .optional(),
  /** Report each token's log probability and those of this many likeliest tokens; none by default. */
  logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).optional(),
})
export type Sampling = z.infer<typeof samplingSchema>

/**
 * `priority` goes before `default`, and `default` before `flex`. Rows of `flex` may be preempted
 * while other requests need them, and resume later with the same tokens.
 */
export const serviceTierSchema = z.enum(['priority', 'default', 'flex'])
export type ServiceTier = z.infer<typeof serviceTierSchema>

/**
 * `POST /v1/generate`: one prompt with a row for each arm; arms that compute it alike share its
 * prefill.
 */
export const generateRequestSchema = z
  .object({
    request_id: z.string().min(1).max(128),
    /**
     * Requests of one tenant share the computed KV of equal beginnings; without a tenant none is
     * shared.
     */
    tenant: z.string().min(1).max(128).optional(),
    /** `default` by default. */
    service_tier: serviceTierSchema.optional(),
    /** Counted from admission; past it the request is dropped. The runner's own setting by default. */
    timeout_ms: z.number().int().min(1).max(MAX_TIMEOUT_MS).optional(),
    /** A chat, which the model's template writes; either this or `prompt`. */
    messages: z.array(chatMessageSchema).min(1).optional(),
    /** Text in which written-out control tokens count as control tokens, or token ids. */
    prompt: z.union([z.string(), z.array(z.number().int().min(0))]).optional(),
    /** Send the prompt back in `prompt` events; with `sampling.logprobs`, token by token. */
    echo: z.boolean().optional(),
    arms: z.array(armSchema).min(1).max(MAX_ARMS),
    sampling: samplingSchema,
    /** The form of the answer, enforced token by token; not together with `choice`. */
    response_format: runnerResponseFormatSchema.optional(),
    /** Functions that the answer may call; only together with `messages`. */
    tools: runnerToolsSchema.optional(),
    /** Restrict the answer to one of these labels, and report each label's probability. */
    choice: z
      .object({ labels: z.array(z.string().min(1).max(MAX_LABEL_CHARS)).min(1).max(MAX_LABELS) })
      .optional(),
  })
  .refine(({ messages, prompt }) => (messages === undefined) !== (prompt === undefined), {
    path: ['messages'],
    message: 'give either messages or a prompt',
  })
export type GenerateRequest = z.infer<typeof generateRequestSchema>

/** What a runner says it applied. The gateway compares it with what it resolved. */
export const appliedSchema = z.object({
  adapters: z.array(adapterTermSchema),
  scope: scopeSchema,
  /** First rotated prompt position where the request named one. */
  rotate_from: z.number().int().nullable(),
  /** Layers with a rotation other than the identity, ascending. */
  layers: z.array(z.number().int().min(0)),
  model_digest: digestSchema,
  build_digest: digestSchema,
  /** SHA-256 of the bias as little-endian float64s, or null where none was applied. */
  bias_digest: digestSchema.nullable(),
})
export type Applied = z.infer<typeof appliedSchema>

export const labelProbabilitySchema = z.object({
  label: z.string(),
  /** With the arm's bias, normalised over the labels. */
  probability: z.number(),
  /** Natural log of the model's own P(label) along the trie, without the bias. */
  log_probability: z.number(),
})
export type LabelProbability = z.infer<typeof labelProbabilitySchema>

/**
 * A token and its log probability: the natural log of the softmax of the model's own logits, before
 * bias, penalties, temperature and truncation, computed in float64.
 */
export const tokenLogprobSchema = z.object({
  id: z.number().int(),
  /** The token's text, with U+FFFD for part of a character; a control token's name. */
  token: z.string(),
  /** The token's bytes. Those of adjacent tokens join to whole characters. */
  bytes: z.array(z.number().int().min(0).max(255)),
  logprob: z.number(),
})
export type TokenLogprob = z.infer<typeof tokenLogprobSchema>

/** A token of an answer and the likeliest tokens at its position, the likeliest first. */
export const positionLogprobSchema = tokenLogprobSchema.extend({
  top: z.array(tokenLogprobSchema).max(MAX_TOP_LOGPROBS),
})
export type PositionLogprob = z.infer<typeof positionLogprobSchema>

/** A token of the prompt. The first has no log probability, since no token before it predicts it. */
export const promptTokenSchema = positionLogprobSchema.extend({ logprob: z.number().nullable() })
export type PromptToken = z.infer<typeof promptTokenSchema>

export const runnerErrorSchema = z.object({
  code: z.enum([
    'invalid_request',
    'unauthorized',
    'not_found',
    'context_length_exceeded',
    'adapter_not_resident',
    'adapter_invalid',
    'adapter_wrong_model',
    'dataset_not_resident',
    'build_mismatch',
    'over_capacity',
    'deadline_exceeded',
    'aborted',
    'internal',
  ]),
  message: z.string(),
  /** What the caller should do next. */
  outcome: z.enum(['retryable', 'over_capacity', 'unserviceable', 'fatal']),
  /** The request's invalid field, where one is. */
  param: z.string().optional(),
  /** `adapter_not_resident`: the digests to push before a retry. */
  missing: z.array(digestSchema).optional(),
  /** `over_capacity`: in how many seconds the current requests should be done. */
  retry_after_seconds: z.number().int().min(1).optional(),
})
export type RunnerError = z.infer<typeof runnerErrorSchema>
/** Body of every answer that is not 2xx. */
export const runnerErrorBodySchema = z.object({ error: runnerErrorSchema })

const usageSchema = z.object({
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int(),
  /** Prompt tokens whose KV was kept from an earlier request. */
  cached_tokens: z.number().int(),
})

/**
 * Events of `POST /v1/generate`, one JSON object on each line (`application/x-ndjson`). Each arm has,
 * in this order: accepted, prompt*, (token | tool_call | labels)*, then end or error. The stream ends
 * with `done`, or with an `error` whose arm is null and which ends the whole request. With neither,
 * the runner died.
 */
export const generateEventSchema = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('accepted'),
    arm: z.number().int(),
    applied: appliedSchema,
    prompt_tokens: z.number().int(),
    /** JSON pointers to the keywords of the request's schemas that are not enforced. */
    schema_hints: z.array(z.string()).optional(),
    /** The form in which the prompt shows functions and calls, where the model's template shows none. */
    tool_form: z.literal('generic').optional(),
  }),
  z.object({
    event: z.literal('prompt'),
    arm: z.number().int(),
    /** The next part of the prompt's text, with control tokens by their names. */
    text: z.string(),
    /** Its tokens in order, where log probabilities are asked for; otherwise none. */
    tokens: z.array(promptTokenSchema),
  }),
  z.object({
    event: z.literal('token'),
    arm: z.number().int(),
    /** Text that these tokens complete; empty where a character needs further tokens. */
    text: z.string(),
    ids: z.array(z.number().int()),
    /** One for each id, where `sampling.logprobs` asks for them. */
    logprobs: z.array(positionLogprobSchema).optional(),
  }),
  z.object({
    event: z.literal('tool_call'),
    arm: z.number().int(),
    /** Which of the answer's calls this is part of, from 0. */
    index: z.number().int().min(0),
    /** Only on the call's first part. */
    name: z.string().optional(),
    /** The next part of the arguments' JSON, as the model writes it. */
    arguments: z.string(),
  }),
  z.object({
    event: z.literal('labels'),
    arm: z.number().int(),
    labels: z.array(labelProbabilitySchema),
  }),
  z.object({
    event: z.literal('end'),
    arm: z.number().int(),
    finish_reason: z.enum(['stop', 'length', 'tool_calls']),
    usage: usageSchema,
    /** With `logprobs`: the control token that ended the answer, which no `token` event has. */
    stop_token: positionLogprobSchema.optional(),
    /** Repeats what `accepted` said, so that a change in between would show. */
    applied: appliedSchema,
    /** From admission to the arm's first token. */
    first_token_ms: z.number(),
    /** From admission to the arm's end. */
    total_ms: z.number(),
  }),
  z.object({
    event: z.literal('error'),
    arm: z.number().int().nullable(),
    error: runnerErrorSchema,
  }),
  z.object({
    event: z.literal('done'),
    /**
     * Prefills, also of cached prompts: 1 for all arms that share the base model's, and 1 for each
     * rotated one.
     */
    num_prefills: z.number().int(),
  }),
])
export type GenerateEvent = z.infer<typeof generateEventSchema>

/** `GET /v1/status`. */
export const runnerStatusSchema = z.object({
  protocol_version: z.number().int(),
  runner_id: z.string(),
  model: z.object({
    slug: z.string(),
    model_digest: digestSchema,
    build_digest: digestSchema,
    num_layers: z.number().int(),
    num_heads: z.number().int(),
    num_kv_heads: z.number().int(),
    head_dim: z.number().int(),
    hidden_size: z.number().int(),
    vocab_size: z.number().int(),
    /** Most prompt and generated tokens of a row. */
    max_context: z.number().int(),
  }),
  /** `c-api` (asynchronous, zero copies) or `js-binding` (the slower fallback). */
  ort_backend: z.enum(['c-api', 'js-binding']),
  limits: z.object({
    max_rows: z.number().int(),
    max_waiting: z.number().int(),
    max_adapter_bytes: z.number().int(),
    max_resident_adapters: z.number().int(),
    max_prefix_cache_bytes: z.number().int(),
  }),
  /** KV of prompts, kept for later requests. */
  prefix_cache: z.object({ bytes: z.number().int(), blocks: z.number().int() }),
  /** Rows that decode or are promised to a prompt; requests that wait; preempted rows. */
  load: z.object({
    running: z.number().int(),
    waiting: z.number().int(),
    parked: z.number().int(),
  }),
  /**
   * Share of the engine's time that jobs may take while there are live requests, and what they took
   * of late.
   */
  job_share: z.object({ limit: z.number(), measured: z.number() }),
  resident_adapters: z.array(digestSchema),
})
export type RunnerStatus = z.infer<typeof runnerStatusSchema>
