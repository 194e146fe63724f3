import type { LibraryTokenizer } from './library.ts'
import { PromptTooLongError, type SectionEncoder } from './section-encoder.ts'

/** From this length on a pre-token's own bound is worth a walk over the vocabulary. */
const LONG_PRE_TOKEN_LEN = 4096

/** Byte-level BPE: words by a pattern, then merges within each. */
export class ByteLevelEncoder implements SectionEncoder {
  readonly #tokenizer: LibraryTokenizer
  readonly #tokens: readonly string[]

  constructor(tokenizer: LibraryTokenizer, tokens: readonly string[]) {
    this.#tokenizer = tokenizer
    this.#tokens = tokens
  }

  encode(text: string, maxTokens: number, ids: number[]): void {
    const { pre_tokenizer: preTokenizer, model } = this.#tokenizer
    for (const preToken of preTokenizer(text)) {
      if (ids.length + this.#minTokens(preToken, maxTokens) > maxTokens) {
        throw new PromptTooLongError(maxTokens)
      }
      for (const token of model([preToken])) ids.push(model.tokens_to_ids.get(token)!)
    }
  }

  /** A lower bound of a pre-token's tokens, taken only where encoding it would be slow. */
  #minTokens(preToken: string, maxTokens: number): number {
    if (preToken.length < LONG_PRE_TOKEN_LEN || maxTokens === Infinity) return 0
    const chars = new Set(preToken)
    let longest = 1
    for (const token of this.#tokens) {
      if (token.length > longest && Array.from(token).every((char) => chars.has(char))) {
        longest = token.length
      }
    }
    return preToken.length / longest
  }
}
