import type { PromptToken } from '../../src/protocol/runner.ts'
import type { ChatTokenizer, Detokenizer } from '../tokenizer/index.ts'
import { describeFirstToken, describePosition, rankPosition } from './describe-logprobs.ts'

/** A stretch of the prompt, as it is sent back. */
export type PromptPiece = { readonly text: string; readonly tokens: readonly PromptToken[] }

/**
 * Sends a prompt back while it is computed. A chunk's logits are read before the next chunk overwrites
 * them, so a long prompt takes no more memory than one chunk's logits.
 */
export class PromptEcho {
  readonly #tokenizer: ChatTokenizer
  readonly #promptIds: readonly number[]
  readonly #numTopLogprobs: number | null
  readonly #detokenizer: Detokenizer

  /** @param numTopLogprobs how many likeliest tokens to report at each position; null: only the text */
  constructor(
    tokenizer: ChatTokenizer,
    promptIds: readonly number[],
    numTopLogprobs: number | null,
  ) {
    this.#tokenizer = tokenizer
    this.#promptIds = promptIds
    this.#numTopLogprobs = numTopLogprobs
    this.#detokenizer = tokenizer.createVerbatimDetokenizer()
  }

  /** Whether every chunk's logits are needed, so that cached chunks cannot be used. */
  get needsLogits(): boolean {
    return this.#numTopLogprobs !== null
  }

  /**
   * The piece that needs no logits: the whole text if no log probabilities are asked for, else the
   * first token.
   */
  begin(): PromptPiece {
    if (!this.needsLogits) return { text: this.#decode(0, this.#promptIds.length), tokens: [] }
    const first = describeFirstToken(this.#tokenizer, this.#promptIds[0]!)
    return { text: this.#decode(0, 1), tokens: [first] }
  }

  /**
   * @param start first position of a chunk
   * @param logits [positions, vocab] of the chunk; the row of position i predicts token i + 1
   */
  read(start: number, logits: Float32Array, vocab: number): PromptPiece {
    const numTokens = logits.length / vocab
    const tokens = Array.from({ length: numTokens }, (_, i) => {
      const id = this.#promptIds[start + i + 1]!
      const row = logits.subarray(i * vocab, (i + 1) * vocab)
      return describePosition(this.#tokenizer, rankPosition(row, id, this.#numTopLogprobs ?? 0))
    })
    return { text: this.#decode(start + 1, start + 1 + numTokens), tokens }
  }

  #decode(start: number, end: number): string {
    const pieces = this.#promptIds.slice(start, end).map((id) => this.#detokenizer.push(id))
    const tail = end === this.#promptIds.length ? this.#detokenizer.flush() : ''
    return pieces.join('') + tail
  }
}
