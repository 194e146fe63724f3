import type { z } from 'zod'
import {
  MAX_TOKENIZED_TOKENS,
  type detokenizeRequestSchema,
  type detokenizeResponseSchema,
  type tokenizeRequestSchema,
  type tokenizeResponseSchema,
  type tokenizerInfoSchema,
} from '../../src/protocol/tokenizer.ts'
import { tooLongFault } from '../admission/encode-prompt.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { Runner } from '../runner.ts'
import { PromptTooLongError } from '../tokenizer/index.ts'

type Context = Pick<Runner['context'], 'tokenizer' | 'maxContext'>

/** @throws {RunnerFault} context_length_exceeded past {@link MAX_TOKENIZED_TOKENS} */
export async function tokenize(
  { tokenizer, maxContext }: Context,
  { prompt }: z.infer<typeof tokenizeRequestSchema>,
): Promise<z.infer<typeof tokenizeResponseSchema>> {
  const tokens = await tokenizer
    .encodeInSlices(prompt, MAX_TOKENIZED_TOKENS)
    .catch((error: unknown) => {
      throw error instanceof PromptTooLongError ? tooLongFault(error, 'prompt') : error
    })
  return { tokens, count: tokens.length, max_model_len: maxContext }
}

/** @throws {RunnerFault} invalid_request for an id that the vocabulary lacks */
export function detokenize(
  { tokenizer }: Context,
  { tokens }: z.infer<typeof detokenizeRequestSchema>,
): z.infer<typeof detokenizeResponseSchema> {
  const unknown = tokens.find((id) => id >= tokenizer.vocabSize)
  if (unknown !== undefined) {
    throw new RunnerFault('invalid_request', `the vocabulary has no token ${unknown}`, {
      param: 'tokens',
    })
  }
  const detokenizer = tokenizer.createVerbatimDetokenizer()
  return { prompt: tokens.map((id) => detokenizer.push(id)).join('') + detokenizer.flush() }
}

export function describeTokenizer({
  tokenizer,
  maxContext,
}: Context): z.infer<typeof tokenizerInfoSchema> {
  const { endOfTurnId, vocabSize, controlTokens, templateSource } = tokenizer
  return {
    vocab_size: vocabSize,
    max_model_len: maxContext,
    bos_token: controlTokens.bos,
    eos_token: new TextDecoder().decode(tokenizer.bytesOf(endOfTurnId)),
    eos_token_id: endOfTurnId,
    pad_token: controlTokens.pad,
    chat_template: templateSource,
  }
}
