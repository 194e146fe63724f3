import type { LogitsProcessor } from '../sampling/logits-processors/index.ts'
import { MASK_NUMBER, MASK_STATE, MASK_WORDS, STATE_COMPLETE, STATE_FAILED } from './messages.ts'

/** How long a step may stand still for a mask: a mask takes some 0.1 ms, a step several. */
const MAX_STEP_WAIT_MS = 2
/** After this long without a mask the grammar is given up; the step has been repeated until then. */
const MAX_MASK_MS = 5_000
/** At an answer's last token it must be known whether it is whole. */
const MAX_END_WAIT_MS = 250

export type MaskState = 'ready' | 'pending' | 'failed'

/**
 * A row's place in its grammar. The thread that keeps it computes the next mask while the model
 * computes the next logits.
 */
export class GrammarRow implements LogitsProcessor {
  readonly #shared: Int32Array
  readonly #send: (token: number) => void
  readonly #now: () => number
  /** Masks that have been asked for. */
  #number = 1
  #askedAtMs: number

  /**
   * @param shared as `messages.ts` lays it out
   * @param send hands a token to the thread
   */
  constructor(shared: Int32Array, send: (token: number) => void, now: () => number) {
    this.#shared = shared
    this.#send = send
    this.#now = now
    this.#askedAtMs = now()
  }

  /** Whether the mask of the token to come is there; waits a little for it. */
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

  /** Bars what the grammar does not admit next. Call where {@link poll} says ready. */
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

  /** Takes the token drawn; the mask after it is being computed when this returns. */
  accept(token: number): void {
    this.#number += 1
    this.#askedAtMs = this.#now()
    this.#send(token)
  }

  /** Whether nothing may follow the tokens taken; waits for the thread to say so. */
  isComplete(): boolean {
    return (
      this.poll(MAX_END_WAIT_MS) === 'ready' &&
      Atomics.load(this.#shared, MASK_STATE) === STATE_COMPLETE
    )
  }
}
