import type { PositionLogprob, PromptToken, TokenLogprob } from '../../src/protocol/runner.ts'
import { logNormaliser, topLogprobs, type RankedToken } from '../sampling/log-probs.ts'
import type { ChatTokenizer } from '../tokenizer/index.ts'

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** One position of an answer: the token that stands there, and the likeliest tokens. */
export type RankedPosition = {
  readonly chosen: RankedToken
  readonly top: readonly RankedToken[]
}

/** @param logits the model's own, [vocab]; not kept */
export function rankPosition(logits: Float32Array, id: number, numTop: number): RankedPosition {
  const normaliser = logNormaliser(logits)
  return {
    chosen: { id, logprob: logits[id]! - normaliser },
    top: topLogprobs(logits, numTop, normaliser),
  }
}

export function describePosition(
  tokenizer: ChatTokenizer,
  { chosen, top }: RankedPosition,
): PositionLogprob {
  return {
    ...describeToken(tokenizer, chosen),
    top: top.map((token) => describeToken(tokenizer, token)),
  }
}

/** The prompt's first token, which nothing predicts. */
export function describeFirstToken(tokenizer: ChatTokenizer, id: number): PromptToken {
  return { ...describeToken(tokenizer, { id, logprob: 0 }), logprob: null, top: [] }
}

function describeToken(tokenizer: ChatTokenizer, { id, logprob }: RankedToken): TokenLogprob {
  const bytes = tokenizer.bytesOf(id)
  return { id, token: decoder.decode(bytes), bytes: [...bytes], logprob }
}
