/**
 * Cuts streamed text at the first stop string. Text that may become a stop string is held back until
 * it is clear that it does not.
 */
export class StopMatcher {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /**
   * @returns text that may be shown, and whether a stop string was found, after which no text follows
   */
  push(text: string): { readonly text: string; readonly stopped: boolean } {
    const whole = this.#held + text
    const ends = this.#stops.map((stop) => whole.indexOf(stop)).filter((index) => index >= 0)
    if (ends.length > 0) {
      this.#held = ''
      return { text: whole.slice(0, Math.min(...ends)), stopped: true }
    }
    const heldLen = Math.max(0, ...this.#stops.map((stop) => overlap(whole, stop)))
    this.#held = whole.slice(whole.length - heldLen)
    return { text: whole.slice(0, whole.length - heldLen), stopped: false }
  }

  /** To be called once no more text comes. @returns the text held back */
  flush(): string {
    const rest = this.#held
    this.#held = ''
    return rest
  }
}

/** Length of the longest proper prefix of `stop` that ends `text`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}
