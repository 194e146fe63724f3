import type { TokenHistory } from './token-history.ts'

/**
 * One pure change of a row's logits before a token is drawn. It touches only the entries it is
 * about, so its cost is theirs and not the vocabulary's.
 */
export interface LogitsProcessor {
  /** @param logits [vocab], changed in place */
  process(logits: Float32Array, history: TokenHistory): void
}
