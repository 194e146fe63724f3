import type { LogitsProcessor } from '../sampling/logits-processors/index.ts'
import { MASK_NUMBER, MASK_STATE, MASK_WORDS, STATE_COMPLETE, STATE_FAILED } from './messages.ts'

/** How long a step may wait for a mask. A mask takes some 0.1 ms, a step several. */
const MAX_STEP_WAIT_MS = 2
/** Until then a step without its mask is repeated; after it the request fails. */
const MAX_MASK_MS = 5_000
/** How long an answer's last token waits to learn whether the answer is complete. */
const MAX_END_WAIT_MS = 250

export type MaskState = 'ready' | 'pending' | 'failed'

/**
 * A row's position in its grammar. The grammar's thread computes the next mask while the model
 * computes the next logits.
 */
export class GrammarRow implements LogitsProcessor {
  readonly #shared: Int32Array
  readonly #send: (token: number) => void
  readonly #now: () => number
  /** How many masks have been asked for. */
  #number = 1
  #askedAtMs: number

  /**
   * @param shared laid out as `messages.ts` says
   * @param send hands a token to the thread
   */
  constructor(shared: Int32Array, send: (token: number) => void, now: () => number) {
    this.#shared = shared
    this.#send = send
    this.#now = now
    this.#askedAtMs = now()
  }

  /** Whether the next token's mask is there; waits a little for it. */
  poll(waitMs = MAX_STEP_WAIT_MS): MaskState {
    if (Atomics.load(this.#shared, MASK_STATE) === STATE_FAILED) return 'failed'
    const written = Atomics.load(this.#shared, MASK_NUMBER)
    if (written < this.#number) {
      Atomics.wait(this.#shared, MASK_NUMBER, written, waitMs)
      if (Atomics.load(this.#shared, MASK_NUMBER) < this.#number) {
        return this.#now() - this.#askedAtMs > MAX_MASK_MS ? 'failed' : 'pending'
      }
    }
    return Atomics.load(this.#shared, MASK_STATE) === STATE_FAILED ? 'failed' : 'ready'
  }

  /**
   * Bars tokens that the grammar does not admit next. Only to be called once {@link poll} says ready.
   */
  process(logits: Float32Array): void {
    const mask = this.#shared
    for (let start = 0, word = MASK_WORDS; start < logits.length; start += 32, word++) {
      const bits = mask[word]!
      if (bits === -1) continue
      if (bits === 0) logits.fill(-Infinity, start, start + 32)
      else {
        for (let bit = 0; bit < 32; bit++) {
          if (((bits >>> bit) & 1) === 0) logits[start + bit] = -Infinity
        }
      }
    }
  }

  /** Takes the token drawn. The thread then begins to compute the mask after it. */
  accept(token: number): void {
    this.#number += 1
    this.#askedAtMs = this.#now()
    this.#send(token)
  }

  /** Whether only the end may follow the tokens taken; waits for the thread's answer. */
  isComplete(): boolean {
    return (
      this.poll(MAX_END_WAIT_MS) === 'ready' &&
      Atomics.load(this.#shared, MASK_STATE) === STATE_COMPLETE
    )
  }
}
