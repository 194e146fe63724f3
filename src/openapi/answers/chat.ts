/** Answers of `/v1/chat/completions`, `/v1/completions`, `/v1/compare` and `/v1/experiments`. */
import { z } from 'zod'
import type { Comparison } from '../../protocol/arcana/compare.ts'
import type { Experiment, ExperimentSummary } from '../../protocol/arcana/experiment.ts'
import type {
  ArcanaProof,
  ChatCompletion,
  ChatCompletionChunk,
  ChatLogprobs,
  Usage,
} from '../../protocol/openai/chat-completions.ts'
import type { Completion } from '../../protocol/openai/completions.ts'
import { labelProbabilitySchema, serviceTierSchema } from '../../protocol/runner.ts'
import { digest, position, scope, unixSeconds } from './common.ts'

const count = z.int().min(0)

export const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({
    cached_tokens: count.describe("How many of the prompt's tokens an earlier request computed."),
  }),
}) satisfies z.ZodType<Usage>

export const proof = z
  .object({
    task: z
      .string()
      .nullable()
      .describe('The selection in canonical form; null for the base model.'),
    version: z.int().nullable().describe('Null for the base model and for a sum of tasks.'),
    adapters: z.array(
      z.object({ digest, weight: z.number(), task: z.string(), version: z.int().min(1) }),
    ),
    scope,
    layers: z.array(count),
    model_digest: digest,
    build_digest: digest,
    runner: z.string(),
    labels: z.array(labelProbabilitySchema).exactOptional(),
    min_confidence: z.number().exactOptional(),
    withheld: z
      .boolean()
      .exactOptional()
      .describe('Whether the likeliest label was less probable than min_confidence.'),
  })
  .describe('What the runner applied to make the answer.') satisfies z.ZodType<ArcanaProof>

const finishReason = z.enum(['stop', 'length', 'tool_calls'])
const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)),
})
export const tokenLogprobs = z.array(
  tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) }),
) satisfies z.ZodType<ChatLogprobs['content']>
const chatLogprobs = z.object({ content: tokenLogprobs, refusal: z.null() })

const head = {
  id: z.string(),
  created: unixSeconds,
  model: z.string(),
  service_tier: serviceTierSchema.exactOptional(),
}

const choice = z.object({
  index: count,
  message: z.object({
    role: z.literal('assistant'),
    content: z.string().nullable(),
    refusal: z.null(),
    tool_calls: z
      .array(
        z.object({
          id: z.string(),
          type: z.literal('function'),
          function: z.object({
            name: z.string(),
            arguments: z.string().describe('JSON, as the model wrote it.'),
          }),
        }),
      )
      .exactOptional(),
  }),
  logprobs: chatLogprobs.nullable(),
  finish_reason: finishReason,
})

export const chatCompletion = z.object({
  ...head,
  object: z.literal('chat.completion'),
  choices: z.tuple([choice], choice),
  usage,
  arcana: proof,
}) satisfies z.ZodType<ChatCompletion>

export const chatCompletionChunk = z.object({
  ...head,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: z.literal('assistant').exactOptional(),
        content: z.string().nullable().exactOptional(),
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: z.string().exactOptional(),
              type: z.literal('function').exactOptional(),
              function: z.object({ name: z.string().exactOptional(), arguments: z.string() }),
            }),
          )
          .exactOptional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usage.nullable().exactOptional(),
  arcana: proof.exactOptional(),
}) satisfies z.ZodType<ChatCompletionChunk>

export const completion = z.object({
  ...head,
  object: z.literal('text_completion'),
  choices: z.array(
    z.object({
      text: z.string(),
      index: count,
      logprobs: z
        .object({
          tokens: z.array(z.string()),
          token_logprobs: z.array(z.number().nullable()),
          top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
          text_offset: z.array(count),
        })
        .nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usage.nullable().exactOptional(),
  arcana: proof.exactOptional(),
}) satisfies z.ZodType<Completion>

/** The frame that all arms of a comparison have: that of the first task among them. */
const sharedFrame = z.object({
  arm: count,
  task: z.string(),
  version: z.int().min(1),
  instructions: z.string().nullable(),
  position,
  labels: z.array(z.string()).nullable(),
  replaced: z
    .boolean()
    .describe("Whether the caller's own system message replaced the instructions."),
})

export const comparison = z.object({
  id: z.string(),
  object: z.literal('arcana.comparison'),
  created: unixSeconds,
  model: z.string(),
  seed: z.int().describe('All arms have this seed.'),
  frame: sharedFrame.nullable(),
  num_prefills: count,
  arms: z.array(
    z.object({
      index: count,
      arm: z.string(),
      message: z.object({ role: z.literal('assistant'), content: z.string() }),
      labels: z.array(labelProbabilitySchema).nullable(),
      finish_reason: finishReason,
      usage,
      first_diverging_token: count.nullable(),
      first_token_ms: z.number(),
      total_ms: z.number(),
      arcana: proof,
    }),
  ),
  latency_ms: z.number(),
}) satisfies z.ZodType<Comparison>

const share = z.number().min(0).max(1)
const lines = z.array(z.int().min(1))

export const experimentSummary = z.object({
  id: z.string(),
  object: z.literal('arcana.experiment'),
  created_at: unixSeconds,
  model: z.string(),
  file: z.string(),
  frame: sharedFrame,
  labels: z.array(z.string()),
  num_rows: count,
  arms: z.array(
    z.object({
      index: count,
      arm: z.string(),
      accuracy: share,
      balanced_accuracy: share,
      confusion: z
        .array(z.array(count))
        .describe('[label][answer]: number of rows, in the order of `labels`.'),
      against_first: z
        .object({
          difference: z.number().min(-1).max(1).describe("Accuracy less arm 0's."),
          interval: z
            .tuple([z.number(), z.number()])
            .nullable()
            .describe('95% bootstrap interval; null if no row is right in only one of the two.'),
          p_value: share.describe("McNemar's exact test, two-sided."),
          adjusted_p_value: share.describe('The same by Holm, over all arms.'),
          won: lines.describe('Lines that this arm answers right and arm 0 wrong.'),
          lost: lines.describe('Lines that this arm answers wrong and arm 0 right.'),
        })
        .nullable()
        .describe('Null for arm 0.'),
      mean_first_token_ms: z.number(),
      mean_total_ms: z.number(),
      completion_tokens: count,
      num_seen_rows: count.describe('Rows that one of its versions learnt from.'),
      arcana: proof,
      summary: z.string(),
    }),
  ),
  usage: z.object({ prompt_tokens: count, completion_tokens: count, total_tokens: count }),
  latency_ms: z.number(),
}) satisfies z.ZodType<ExperimentSummary>

export const experiment = experimentSummary.extend({
  rows: z.array(
    z.object({
      line: z.int().min(1),
      label: z.string(),
      answers: z.array(z.string()).describe('One for each arm.'),
    }),
  ),
}) satisfies z.ZodType<Experiment>
