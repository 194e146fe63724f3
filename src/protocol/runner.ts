/**
 * Messages between the gateway and a runner node, the internal seam of the house (DESIGN §4). What
 * jobs say is in runner-scoring.ts.
 * Every call but `/healthz` carries `Authorization: Bearer <runner secret>`.
 * Wire keys are snake_case; binary bodies are little-endian.
 */
import { z } from 'zod'
import { runnerResponseFormatSchema } from './response-format.ts'
import { runnerToolsSchema, toolMessageSchemas } from './tools.ts'

/** Raised whenever a message changes in a way that an older peer would misread. */
export const RUNNER_PROTOCOL_VERSION = 8

/** A response may hold one row for each arm; more arms would not fit one decode batch. */
export const MAX_ARMS = 16
/** Terms of one composed selection; each is one resident adapter. */
export const MAX_TERMS = 16
/** Beyond this a weight is a mistake: ±π/4 angles already wrap around. */
export const MAX_ABS_WEIGHT = 64
/** Whole labels a choice may hold (clinc150 has 150). */
export const MAX_LABELS = 200
export const MAX_LABEL_CHARS = 256
export const MAX_STOP_STRINGS = 4
/** Alternatives a token's log probability may be reported with, as OpenAI's. */
export const MAX_TOP_LOGPROBS = 20
/** As OpenAI's: beyond it a token is forced or banned anyway. */
export const MAX_ABS_LOGIT_BIAS = 100
export const MAX_LOGIT_BIAS_ENTRIES = 1024
export const MAX_ABS_PENALTY = 2
/** A day: beyond it a deadline means none. */
export const MAX_TIMEOUT_MS = 86_400_000
/** Far past any use; 1 changes nothing. */
export const MAX_REPETITION_PENALTY = 10

export const DIGEST_PATTERN = /^[0-9a-f]{64}$/
export const digestSchema = z.string().regex(DIGEST_PATTERN)
export const scopeSchema = z.enum(['generated', 'all'])
export type Scope = z.infer<typeof scopeSchema>

/** One chat message as the model's template sees it. */
export const promptMessageSchema = z.object({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string(),
  /** Who speaks, among several of one role; most templates do not show it. */
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

/** One output wanted of the prompt: no adapters means the base model. */
export const armSchema = z.object({
  adapters: z.array(adapterTermSchema).max(MAX_TERMS),
  scope: scopeSchema,
  /** Added to the labels' log probabilities, in the order of `choice.labels`; absent is all zero. */
  bias: z.array(z.number().min(-1e3).max(1e3)).max(MAX_LABELS).optional(),
  seed: z.number().int().min(0).max(0xffffffff).optional(),
  /**
   * First prompt position that is rotated, for given text that is to be scored; absent leaves it to
   * the scope. Under scope `all` only 0 is allowed.
   */
  rotate_from: z.number().int().min(0).optional(),
})
export type Arm = z.infer<typeof armSchema>

export const samplingSchema = z.object({
  /** Tokens to generate at most, 0 for an echo alone; absent is up to the context's end. */
  max_tokens: z.number().int().min(0).optional(),
  /** 0 is greedy. */
  temperature: z.number().min(0).max(2),
  top_p: z.number().gt(0).max(1),
  stop: z.array(z.string().min(1)).max(MAX_STOP_STRINGS),
  /** Draw among this many likeliest tokens; absent is all. */
  top_k: z.number().int().min(1).optional(),
  /** Draw among tokens of at least this share of the likeliest one's probability. */
  min_p: z.number().min(0).max(1).optional(),
  presence_penalty: z.number().min(-MAX_ABS_PENALTY).max(MAX_ABS_PENALTY).optional(),
  frequency_penalty: z.number().min(-MAX_ABS_PENALTY).max(MAX_ABS_PENALTY).optional(),
  repetition_penalty: z.number().gt(0).max(MAX_REPETITION_PENALTY).optional(),
  /** [token id, added to its logit]. */
  logit_bias: z
    .array(
      z.tuple([
        z.number().int().min(0),
        z.number().min(-MAX_ABS_LOGIT_BIAS).max(MAX_ABS_LOGIT_BIAS),
      ]),
    )
    .max(MAX_LOGIT_BIAS_ENTRIES)
    .optional(),
  /** Report each token's log probability, and those of this many likeliest tokens; absent: none. */
  logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).optional(),
})
export type Sampling = z.infer<typeof samplingSchema>

/**
 * How a request is ranked: `priority` before `default` before `flex`. Rows of `flex` may be set aside
 * while others need them, and go on later with the same tokens.
 */
export const serviceTierSchema = z.enum(['priority', 'default', 'flex'])
export type ServiceTier = z.infer<typeof serviceTierSchema>

/** `POST /v1/generate`: one prompt, one prefill (per scope), one row an arm. */
export const generateRequestSchema = z
  .object({
    request_id: z.string().min(1).max(128),
    /** Prompts that begin alike share computed KV within a tenant; absent shares nothing. */
    tenant: z.string().min(1).max(128).optional(),
    /** Absent is `default`. */
    service_tier: serviceTierSchema.optional(),
    /** From admission; past it the request is given up. Absent is the runner's own. */
    timeout_ms: z.number().int().min(1).max(MAX_TIMEOUT_MS).optional(),
    /** A chat, through the model's template; either this or `prompt`. */
    messages: z.array(chatMessageSchema).min(1).optional(),
    /** Text in which control tokens written out count as such, or token ids, as they stand. */
    prompt: z.union([z.string(), z.array(z.number().int().min(0))]).optional(),
    /** Give the prompt back in `prompt` events; with `sampling.logprobs`, token by token. */
    echo: z.boolean().optional(),
    arms: z.array(armSchema).min(1).max(MAX_ARMS),
    sampling: samplingSchema,
    /** What the answer must be, enforced token by token; not beside `choice`. */
    response_format: runnerResponseFormatSchema.optional(),
    /** Functions that the answer may call, shown by the model's template; beside `messages` only. */
    tools: runnerToolsSchema.optional(),
    /** Restrict the answer to one of these labels and report the probability of each. */
    choice: z
      .object({ labels: z.array(z.string().min(1).max(MAX_LABEL_CHARS)).min(1).max(MAX_LABELS) })
      .optional(),
  })
  .refine(({ messages, prompt }) => (messages === undefined) !== (prompt === undefined), {
    path: ['messages'],
    message: 'give either messages or a prompt',
  })
export type GenerateRequest = z.infer<typeof generateRequestSchema>

/** What a runner says it applied; the gateway holds it against what it resolved. */
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
  /** After the arm's bias, renormalised over the labels. */
  probability: z.number(),
  /** Natural log of the model's own P(label) along the trie, before any bias. */
  log_probability: z.number(),
})
export type LabelProbability = z.infer<typeof labelProbabilitySchema>

/**
 * One token and its log probability: natural log of the softmax of the model's own logits, before
 * bias, penalties, temperature and truncation, computed in float64.
 */
export const tokenLogprobSchema = z.object({
  id: z.number().int(),
  /** Decoded alone: U+FFFD where it holds part of a character; a control token's name. */
  token: z.string(),
  /** The token's own bytes; those of adjacent tokens join to whole characters. */
  bytes: z.array(z.number().int().min(0).max(255)),
  logprob: z.number(),
})
export type TokenLogprob = z.infer<typeof tokenLogprobSchema>

/** A token of an answer and the likeliest tokens in its place, likeliest first. */
export const positionLogprobSchema = tokenLogprobSchema.extend({
  top: z.array(tokenLogprobSchema).max(MAX_TOP_LOGPROBS),
})
export type PositionLogprob = z.infer<typeof positionLogprobSchema>

/** A token of the prompt; the first has nothing before it that could predict it. */
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
  /** The request field at fault, where there is one. */
  param: z.string().optional(),
  /** `adapter_not_resident`: the digests to push before a retry. */
  missing: z.array(digestSchema).optional(),
  /** `over_capacity`: when what is queued should be worked off. */
  retry_after_seconds: z.number().int().min(1).optional(),
})
export type RunnerError = z.infer<typeof runnerErrorSchema>
/** Body of every answer that is not 2xx. */
export const runnerErrorBodySchema = z.object({ error: runnerErrorSchema })

const usageSchema = z.object({
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int(),
  /** Of the prompt's tokens, those whose KV was kept from an earlier request. */
  cached_tokens: z.number().int(),
})

/**
 * Events of `POST /v1/generate`, one JSON object a line (`application/x-ndjson`). Per arm, in order:
 * accepted, prompt*, (token | tool_call | labels)*, then end or error. The stream closes with `done`; without it, the
 * runner died. An `error` with arm null ends the whole request.
 */
export const generateEventSchema = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('accepted'),
    arm: z.number().int(),
    applied: appliedSchema,
    prompt_tokens: z.number().int(),
    /** Keywords of the request's schemas that nothing holds the answer to, as pointers to them. */
    schema_hints: z.array(z.string()).optional(),
    /** How functions and calls are shown, where the model's template shows none. */
    tool_form: z.literal('generic').optional(),
  }),
  z.object({
    event: z.literal('prompt'),
    arm: z.number().int(),
    /** The prompt's text from where the last such event ended, control tokens by their names. */
    text: z.string(),
    /** Its tokens in order, where log probabilities are wanted; else none. */
    tokens: z.array(promptTokenSchema),
  }),
  z.object({
    event: z.literal('token'),
    arm: z.number().int(),
    /** Text completed by these tokens; may be empty inside a multi-token character. */
    text: z.string(),
    ids: z.array(z.number().int()),
    /** One an id, where `sampling.logprobs` asks for them. */
    logprobs: z.array(positionLogprobSchema).optional(),
  }),
  z.object({
    event: z.literal('tool_call'),
    arm: z.number().int(),
    /** Which of the answer's calls this is a part of, from 0. */
    index: z.number().int().min(0),
    /** On the call's first part. */
    name: z.string().optional(),
    /** The arguments' JSON from where the last part ended, as the model wrote it. */
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
    /** The control token that ended the answer, which no `token` event names; with `logprobs`. */
    stop_token: positionLogprobSchema.optional(),
    /** Repeats `accepted`, so that a late swap would show. */
    applied: appliedSchema,
    /** From admission to the arm's first token and to its last. */
    first_token_ms: z.number(),
    total_ms: z.number(),
  }),
  z.object({
    event: z.literal('error'),
    arm: z.number().int().nullable(),
    error: runnerErrorSchema,
  }),
  z.object({
    event: z.literal('done'),
    /** Prompts computed, cached parts or not: 1 for any number of `generated` arms, plus 1 for each `all` arm. */
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
    /** Prompt and generated tokens a row may hold. */
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
  /** Prompts' KV kept for later requests. */
  prefix_cache: z.object({ bytes: z.number().int(), blocks: z.number().int() }),
  /** Rows decoding or promised, requests without one, rows set aside for others. */
  load: z.object({
    running: z.number().int(),
    waiting: z.number().int(),
    parked: z.number().int(),
  }),
  /** What jobs may take of the engine's time while requests are there, and what they did of late. */
  job_share: z.object({ limit: z.number(), measured: z.number() }),
  resident_adapters: z.array(digestSchema),
})
export type RunnerStatus = z.infer<typeof runnerStatusSchema>
