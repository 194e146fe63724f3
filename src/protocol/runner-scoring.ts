/**
 * What jobs ask of a runner (DESIGN §4): examples kept by digest, candidates scored on them and
 * differentiated. Binary bodies are little-endian.
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
/** Tokens of a target, the end of the turn among them: its backward pass is one run of them all. */
export const MAX_TARGET_TOKENS = 256
export const MAX_SCORE_CANDIDATES = 64
/** A gradient's candidates share one training step; each holds its activations until the way back. */
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

/** An answer as its very tokens, as a model gave them. */
const targetTokensSchema = z
  .object({
    ids: z.array(z.number().int().min(0)).max(MAX_TARGET_TOKENS),
    /** Whether the turn ended after them; an answer cut at a number of tokens did not. */
    ended: z.boolean(),
  })
  .refine(({ ids, ended }) => ended || ids.length > 0, 'a target without tokens')

const targetDatasetSchema = z.strictObject({
  examples: z
    .array(
      z.object({
        messages: z.array(promptMessageSchema).min(1),
        /** The whole answer: as text, to whose tokens the end of the turn is added, or as tokens. */
        target: z.union([z.string().min(1), targetTokensSchema]),
      }),
    )
    .min(1)
    .max(MAX_DATASET_EXAMPLES),
})
export type TargetDataset = z.infer<typeof targetDatasetSchema>

/**
 * `PUT /v1/datasets/:digest`, body: this as JSON; the digest is the SHA-256 of those bytes. Examples
 * have one of the labels each, or a text of their own.
 * The runner tokenises and keeps the examples, and the prompts' KV while memory allows.
 * With `?use=gradient` it begins to load what `POST /v1/gradient` needs.
 */
export const datasetSchema = z.union([labelDatasetSchema, targetDatasetSchema])
export type Dataset = z.infer<typeof datasetSchema>
export const isTargetDataset = (dataset: Dataset): dataset is TargetDataset =>
  !('labels' in dataset)

/**
 * `POST /v1/measure`: which examples are past the context, with room for their answers. Nothing is
 * kept. Examples without a label or a target have their answers generated.
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
/** Indices of those that do not fit, ascending. */
export const measureResponseSchema = z.object({ too_long: z.array(z.number().int().min(0)) })

export const datasetResidentSchema = z.object({
  digest: digestSchema,
  num_examples: z.number().int(),
  /** 0 where the examples have targets. */
  num_labels: z.number().int(),
  prompt_tokens: z.object({ total: z.number().int(), longest: z.number().int() }),
  /** Tokens of each example's target, the end of the turn among them; absent under labels. */
  target_tokens: z.array(z.number().int().min(1)).optional(),
})

/**
 * Header of `POST /v1/score`. The body is: uint32 header length, the header as JSON, then float32
 * angles [num_candidates, layers.length, num_heads, head_dim/2], then, where `has_log_scale`, log
 * scales of the same shape. Layers not named are the identity; `layers: []` scores the base model.
 * A pure function of (dataset, build, candidates).
 */
export const scoreHeaderSchema = z.object({
  dataset: digestSchema,
  /** Where given, another build answers 409 `build_mismatch`. */
  build_digest: digestSchema.optional(),
  scope: scopeSchema,
  num_candidates: z.number().int().min(1).max(MAX_SCORE_CANDIDATES),
  layers: z.array(z.number().int().min(0)),
  has_log_scale: z.boolean(),
  /** Examples to score, by index; absent is all. */
  examples: z.array(z.number().int().min(0)).min(1).optional(),
})
export type ScoreHeader = z.infer<typeof scoreHeaderSchema>

/**
 * `log_probs[candidate][example][label]`: log P(label) along the trie, natural log, no bias. Examples
 * with targets have one value: the sum of their tokens' log probabilities.
 */
export const scoreResponseSchema = z.object({
  build_digest: digestSchema,
  log_probs: z.array(z.array(z.array(z.number()))),
})
export type ScoreResponse = z.infer<typeof scoreResponseSchema>

/**
 * Header of `POST /v1/gradient`. The body is laid out as a score request's, with the example weights
 * [num_candidates, examples] after the candidates, as float32. Scope is `generated`.
 * The loss of a candidate is −Σ weight·log P(right label or target), so that weights of 1/n give the
 * mean and weights of 0 leave an example out of the gradient but not out of `log_probs`. A weight
 * may be below 0.
 * Computed in float32 throughout, unlike `/v1/score` on a served build.
 * A pure function of (dataset, build, candidates, weights, dropout).
 */
export const gradientHeaderSchema = z.object({
  dataset: digestSchema,
  /** Where given, another build answers 409 `build_mismatch`. */
  build_digest: digestSchema.optional(),
  num_candidates: z.number().int().min(1).max(MAX_GRADIENT_CANDIDATES),
  /** Layers of the candidates, and of the gradient. */
  layers: z.array(z.number().int().min(0)).min(1),
  has_log_scale: z.boolean(),
  /** Examples by index; absent is all. */
  examples: z.array(z.number().int().min(0)).min(1).optional(),
  /**
   * Of these examples, those that are computed; absent is all. The others' log probabilities are NaN
   * and cost nothing. Calls of equal `examples` share their prompts, which calls of some of them
   * would not. Examples that are computed together are best neighbours.
   */
  computed_examples: z.array(z.number().int().min(0)).min(1).optional(),
  /**
   * Leaves out what has weight 0: its log probability is NaN, and it costs nothing. Neighbours of
   * equal patterns of zeros are computed together, so examples are best ordered by them.
   */
  skip_unweighted: z.boolean().optional(),
  /**
   * Where an example has a weight, its prompt is read as if a share of its own tokens were not there:
   * nothing attends to them. Tokens that all prompts of the dataset begin or end with stay, and so do
   * all of an example whose weight is 0. Which ones is a function of the seed, the example's index and
   * the candidate's, and of no other row.
   */
  prompt_dropout: z
    .object({ share: z.number().min(0).lt(1), seed: z.number().int().min(0) })
    .optional(),
})
export type GradientHeader = z.infer<typeof gradientHeaderSchema>

/**
 * Header of the answer, laid out likewise. Its float32 values are the loss [num_candidates], log
 * P(right label or target) [num_candidates, num_examples], then d loss / d angle
 * [num_candidates, num_layers, num_heads, head_dim/2] and, where the request has log scales,
 * d loss / d log scale of the same shape.
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

/** A uint32 length, a header of that many bytes as JSON, then float32 values. */
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
 * Splits such a body into its header text and its values.
 * @returns null where the body is too short for its own header or not a whole number of float32s
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
