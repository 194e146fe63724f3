/**
 * Messages of jobs to a runner: datasets of examples, kept by digest; candidates' scores on them; the
 * gradients of candidates' losses. Binary bodies are little-endian.
 */
import { z } from 'zod'
import {
  digestSchema,
  MAX_LABEL_CHARS,
  MAX_LABELS,
  promptMessageSchema,
  scopeSchema,
} from './runner.ts'

export const MAX_DATASET_EXAMPLES = 4096
/** Tokens of a target, the end of the turn included. One run of the training graph takes them all. */
export const MAX_TARGET_TOKENS = 256
export const MAX_SCORE_CANDIDATES = 64
/** Candidates share a training step, and each one's activations are kept for the backward pass. */
const MAX_GRADIENT_CANDIDATES = 32

const labelDatasetSchema = z.strictObject({
  labels: z.array(z.string().min(1).max(MAX_LABEL_CHARS)).min(2).max(MAX_LABELS),
  examples: z
    .array(
      z.object({ messages: z.array(promptMessageSchema).min(1), label: z.number().int().min(0) }),
    )
    .min(1)
    .max(MAX_DATASET_EXAMPLES),
})
export type LabelDataset = z.infer<typeof labelDatasetSchema>

/** An answer by its tokens, as a model generated them. */
const targetTokensSchema = z
  .object({
    ids: z.array(z.number().int().min(0)).max(MAX_TARGET_TOKENS),
    /** Whether the turn ended after them; in an answer cut off at `max_tokens` it did not. */
    ended: z.boolean(),
  })
  .refine(({ ids, ended }) => ended || ids.length > 0, 'a target without tokens')

const targetDatasetSchema = z.strictObject({
  examples: z
    .array(
      z.object({
        messages: z.array(promptMessageSchema).min(1),
        /** The whole answer, as tokens or as text; the end of the turn is added to a text's tokens. */
        target: z.union([z.string().min(1), targetTokensSchema]),
      }),
    )
    .min(1)
    .max(MAX_DATASET_EXAMPLES),
})
export type TargetDataset = z.infer<typeof targetDatasetSchema>

/**
 * Body of `PUT /v1/datasets/:digest`, as JSON; the digest is the SHA-256 of its bytes. Each example
 * has one of the labels, or a text of its own. The runner tokenises and keeps the examples, and the
 * prompts' KV while memory allows. With `?use=gradient` it begins to load the graph that `POST
 * /v1/gradient` needs.
 */
export const datasetSchema = z.union([labelDatasetSchema, targetDatasetSchema])
export type Dataset = z.infer<typeof datasetSchema>
export const isTargetDataset = (dataset: Dataset): dataset is TargetDataset =>
  !('labels' in dataset)

/**
 * `POST /v1/measure` asks which examples, with their answers, do not fit the context. Nothing is kept.
 * Examples without a label or a target are those whose answers will be generated.
 */
export const measureRequestSchema = z.union([
  labelDatasetSchema,
  z.strictObject({
    examples: z
      .array(
        z.object({
          messages: z.array(promptMessageSchema).min(1),
          target: z.string().min(1).optional(),
        }),
      )
      .min(1)
      .max(MAX_DATASET_EXAMPLES),
  }),
])
export type MeasureRequest = z.infer<typeof measureRequestSchema>
/** Indices of the examples that do not fit, ascending. */
export const measureResponseSchema = z.object({ too_long: z.array(z.number().int().min(0)) })

export const datasetResidentSchema = z.object({
  digest: digestSchema,
  num_examples: z.number().int(),
  /** 0 where the examples have targets. */
  num_labels: z.number().int(),
  prompt_tokens: z.object({ total: z.number().int(), longest: z.number().int() }),
  /**
   * Tokens of each example's target, the end of the turn included; absent where examples have labels.
   */
  target_tokens: z.array(z.number().int().min(1)).optional(),
})

/**
 * Header of `POST /v1/score`. The body is the header's length as uint32, the header as JSON, float32
 * angles [num_candidates, layers.length, num_heads, head_dim/2], and with `has_log_scale` log scales
 * of the same shape. Layers that are not named are not rotated; `layers: []` scores the base model.
 * The answer is a pure function of (dataset, build, candidates).
 */
export const scoreHeaderSchema = z.object({
  dataset: digestSchema,
  /** If given, a runner with another build answers 409 `build_mismatch`. */
  build_digest: digestSchema.optional(),
  scope: scopeSchema,
  num_candidates: z.number().int().min(1).max(MAX_SCORE_CANDIDATES),
  layers: z.array(z.number().int().min(0)),
  has_log_scale: z.boolean(),
  /** Examples to score, by index; all by default. */
  examples: z.array(z.number().int().min(0)).min(1).optional(),
})
export type ScoreHeader = z.infer<typeof scoreHeaderSchema>

/**
 * `log_probs[candidate][example][label]` is the natural log of P(label) along the trie, without a
 * bias. An example with a target has one value, the sum of its tokens' log probabilities.
 */
export const scoreResponseSchema = z.object({
  build_digest: digestSchema,
  log_probs: z.array(z.array(z.array(z.number()))),
})
export type ScoreResponse = z.infer<typeof scoreResponseSchema>

/**
 * Header of `POST /v1/gradient`. The body is laid out as a score request's, with example weights
 * [num_candidates, examples] as float32 after the candidates. The scope is `generated`.
 *
 * A candidate's loss is −Σ weight·log P(right label or target). Weights of 1/n give the mean, a
 * weight of 0 leaves an example out of the gradient but not out of `log_probs`, and a weight may be
 * negative. All is computed in float32, unlike `/v1/score` on a served build. The answer is a pure
 * function of (dataset, build, candidates, weights, dropout).
 */
export const gradientHeaderSchema = z.object({
  dataset: digestSchema,
  /** If given, a runner with another build answers 409 `build_mismatch`. */
  build_digest: digestSchema.optional(),
  num_candidates: z.number().int().min(1).max(MAX_GRADIENT_CANDIDATES),
  /** Layers that the candidates and the gradient have. */
  layers: z.array(z.number().int().min(0)).min(1),
  has_log_scale: z.boolean(),
  /** Examples by index; all by default. */
  examples: z.array(z.number().int().min(0)).min(1).optional(),
  /**
   * Which of these examples are computed; all by default. The others cost nothing, and their log
   * probabilities are NaN. Calls with equal `examples` share the prompts' KV, which calls that named
   * only some of them would not. Examples that are computed together should be neighbours.
   */
  computed_examples: z.array(z.number().int().min(0)).min(1).optional(),
  /**
   * Does not compute an example for a candidate that gives it weight 0: it costs nothing, and its log
   * probability is NaN. Neighbours with the same candidates are computed together, so examples should be
   * ordered by them.
   */
  skip_unweighted: z.boolean().optional(),
  /**
   * Hides a share of a prompt's tokens: no position attends to them. Tokens with which all prompts of
   * the dataset begin or end are not hidden, nor those of an example whose weight is 0. Which ones
   * are hidden depends only on the seed, the example's index and the candidate's.
   */
  prompt_dropout: z
    .object({ share: z.number().min(0).lt(1), seed: z.number().int().min(0) })
    .optional(),
})
export type GradientHeader = z.infer<typeof gradientHeaderSchema>

/**
 * Header of the answer, whose body is laid out likewise. Its float32 values are the loss
 * [num_candidates], log P(right label or target) [num_candidates, num_examples], d loss / d angle
 * [num_candidates, num_layers, num_heads, head_dim/2] and, if the request has log scales, d loss / d
 * log scale of the same shape.
 */
export const gradientResponseSchema = z.object({
  build_digest: digestSchema,
  num_candidates: z.number().int(),
  num_examples: z.number().int(),
})
export type GradientResponse = z.infer<typeof gradientResponseSchema>

/** Lays a score request out as one body. */
export const encodeScoreBody = (
  header: ScoreHeader,
  values: Float32Array,
): Uint8Array<ArrayBuffer> => encodeBinaryBody(header, values)

/** Lays out a body: the header's length as uint32, the header as JSON, then float32 values. */
export function encodeBinaryBody(
  header: ScoreHeader | GradientHeader | GradientResponse,
  values: Float32Array,
): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(header))
  const body = new Uint8Array(4 + json.length + values.byteLength)
  new DataView(body.buffer).setUint32(0, json.length, true)
  body.set(json, 4)
  body.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 4 + json.length)
  return body
}

/**
 * Splits a body that {@link encodeBinaryBody} laid out into its header's text and its values.
 * @returns null where the body is too short for its header, or the values are not whole float32s
 */
export function decodeBinaryBody(
  body: Uint8Array,
): { readonly headerJson: string; readonly values: Float32Array } | null {
  if (body.length < 4) return null
  const headerLen = new DataView(body.buffer, body.byteOffset, 4).getUint32(0, true)
  const valuesLen = body.length - 4 - headerLen
  if (valuesLen < 0 || valuesLen % 4 !== 0) return null
  const headerJson = new TextDecoder().decode(body.subarray(4, 4 + headerLen))
  // Copied, since the header's length need not keep float32 alignment.
  const values = new Float32Array(body.slice(4 + headerLen).buffer)
  return { headerJson, values }
}
