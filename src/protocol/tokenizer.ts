/**
 * `POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info` of the gateway and of a runner. The
 * shapes are vLLM's, which lm-evaluation-harness reads with `tokenizer_backend: remote`.
 */
import { z } from 'zod'

/** About 16 contexts. More would delay the rows that are decoding. */
export const MAX_TOKENIZED_TOKENS = 32_768

export const tokenizeRequestSchema = z.strictObject({
  model: z.string().min(1).optional(),
  /** Control tokens may be written out as text, as in `POST /v1/completions`. */
  prompt: z.string(),
  /** Has no effect: like `POST /v1/completions`, this adds no special tokens. */
  add_special_tokens: z.boolean().optional(),
})
export const tokenizeResponseSchema = z.object({
  tokens: z.array(z.number().int()),
  count: z.number().int(),
  /** How many tokens a prompt and its answer may have together. */
  max_model_len: z.number().int(),
})

export const detokenizeRequestSchema = z.strictObject({
  model: z.string().min(1).optional(),
  tokens: z.array(z.number().int().min(0)).max(MAX_TOKENIZED_TOKENS),
})
/** The text shows control tokens by their names. */
export const detokenizeResponseSchema = z.object({ prompt: z.string() })

/** Which model's tokenizer `GET /tokenizer_info` describes; the default model's by default. */
export const tokenizerInfoQuerySchema = z.object({ model: z.string().optional() })

export const tokenizerInfoSchema = z.object({
  vocab_size: z.number().int(),
  max_model_len: z.number().int(),
  bos_token: z.string().nullable(),
  eos_token: z.string(),
  eos_token_id: z.number().int(),
  pad_token: z.string().nullable(),
  /** The model's own Jinja template; null for a model without one. */
  chat_template: z.string().nullable(),
})
