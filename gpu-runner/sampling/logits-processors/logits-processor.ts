import type { TokenHistory } from './token-history.ts'

/**
 * Changes a row's logits before a token is drawn. It visits only the entries that it changes, so its
 * cost does not grow with the vocabulary.
 */
export interface LogitsProcessor {
  /** @param logits [vocab], changed in place */
  process(logits: Float32Array, history: TokenHistory): void
}
