const SLOT_MS = 1_000
const NUM_SLOTS = 60

/** Amounts by the second in which they were used. */
export type WindowEntries = readonly (readonly [second: number, amount: number])[]

/**
 * What was used in the last 60 seconds, to the second. It slides, so that no minute, wherever it
 * begins, has more than its limit.
 */
export class MinuteWindow {
  readonly #slots: Map<number, number>

  constructor(entries: WindowEntries = []) {
    this.#slots = new Map(entries)
  }

  used(nowMs: number): number {
    const first = secondOf(nowMs) - NUM_SLOTS + 1
    let sum = 0
    for (const [second, amount] of this.#slots) {
      if (second < first) this.#slots.delete(second)
      else sum += amount
    }
    return sum
  }

  charge(amount: number, nowMs: number): void {
    const second = secondOf(nowMs)
    this.#slots.set(second, (this.#slots.get(second) ?? 0) + amount)
  }

  /**
   * Takes back an amount that was charged at about `atMs`: from that second, then from those before
   * and after it. What has left the window is not taken back from others.
   */
  refund(amount: number, atMs: number, nowMs: number): void {
    this.used(nowMs)
    const at = secondOf(atMs)
    if (at <= secondOf(nowMs) - NUM_SLOTS) return
    const seconds = [...this.#slots.keys()].sort((a, b) => Math.abs(a - at) - Math.abs(b - at))
    let left = amount
    for (const second of seconds) {
      const taken = Math.min(left, this.#slots.get(second)!)
      this.#put(second, this.#slots.get(second)! - taken)
      left -= taken
    }
  }

  /** Milliseconds until an amount fits; null if it is larger than the limit. */
  waitMs(amount: number, limit: number, nowMs: number): number | null {
    if (amount > limit) return null
    let excess = this.used(nowMs) + amount - limit
    if (excess <= 0) return 0
    for (const [second, used] of this.entries()) {
      excess -= used
      if (excess <= 0) return endOf(second) - nowMs
    }
    return null
  }

  /** Milliseconds until nothing is used. */
  clearMs(nowMs: number): number {
    this.used(nowMs)
    const last = this.entries().at(-1)
    return last === undefined ? 0 : endOf(last[0]) - nowMs
  }

  /** In the order of time. */
  entries(): WindowEntries {
    return [...this.#slots].sort(([a], [b]) => a - b)
  }

  #put(second: number, amount: number): void {
    if (amount === 0) this.#slots.delete(second)
    else this.#slots.set(second, amount)
  }
}

const secondOf = (ms: number): number => Math.floor(ms / SLOT_MS)
/** When a second's amounts leave the window. */
const endOf = (second: number): number => (second + NUM_SLOTS) * SLOT_MS
