/**
 * `POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`, of gateway and runner alike: the
 * shapes of vLLM that lm-evaluation-harness reads with `tokenizer_backend: remote`.
 */
import { z } from 'zod'

/** Some 16 contexts; more would hold up the rows that are decoding. */
export const MAX_TOKENIZED_TOKENS = 32_768

export const tokenizeRequestSchema = z.strictObject({
  model: z.string().min(1).optional(),
  /** Control tokens written out count as such, as in `POST /v1/completions`. */
  prompt: z.string(),
  /** Either way: the tokens are those of `POST /v1/completions`, which adds none. */
  add_special_tokens: z.boolean().optional(),
})
export const tokenizeResponseSchema = z.object({
  tokens: z.array(z.number().int()),
  count: z.number().int(),
  /** Tokens of prompt and answer that a request may have. */
  max_model_len: z.number().int(),
})

export const detokenizeRequestSchema = z.strictObject({
  model: z.string().min(1).optional(),
  tokens: z.array(z.number().int().min(0)).max(MAX_TOKENIZED_TOKENS),
})
/** Control tokens appear by their names. */
export const detokenizeResponseSchema = z.object({ prompt: z.string() })

export const tokenizerInfoSchema = z.object({
  vocab_size: z.number().int(),
  max_model_len: z.number().int(),
  bos_token: z.string().nullable(),
  eos_token: z.string(),
  eos_token_id: z.number().int(),
  pad_token: z.string().nullable(),
  /** The model's own Jinja template. */
  /** Null for a model that holds no chats. */
  chat_template: z.string().nullable(),
})
