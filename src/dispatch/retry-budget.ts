const WINDOW_MS = 10_000
/** So many retries are allowed in a window even if there are few requests. */
const MIN_RETRIES = 5
/** Beyond that, retries may be this share of the window's requests. */
const SHARE = 0.2
const JITTER_BASE_MS = 25
const JITTER_MAX_MS = 250

type Window = { readonly startMs: number; numRequests: number; numRetries: number }

/**
 * Bounds how many calls are repeated on another runner, so that a storm of failures is not
 * multiplied. The window slides by halves: the last whole one counts by the part of it that is not
 * yet past. All times are milliseconds since the epoch.
 */
export class RetryBudget {
  #last: Window = { startMs: -Infinity, numRequests: 0, numRetries: 0 }
  #now: Window = { startMs: -Infinity, numRequests: 0, numRetries: 0 }

  addRequest(nowMs: number): void {
    this.#roll(nowMs)
    this.#now.numRequests += 1
  }

  /** Takes one retry from the budget. @returns whether there was one left */
  takeRetry(nowMs: number): boolean {
    this.#roll(nowMs)
    const weight = 1 - (nowMs - this.#now.startMs) / WINDOW_MS
    const numRequests = this.#now.numRequests + weight * this.#last.numRequests
    const numRetries = this.#now.numRetries + weight * this.#last.numRetries
    if (numRetries + 1 > Math.max(MIN_RETRIES, SHARE * numRequests)) return false
    this.#now.numRetries += 1
    return true
  }

  #roll(nowMs: number): void {
    const ageMs = nowMs - this.#now.startMs
    // A clock that was set back begins a new window.
    if (ageMs >= 0 && ageMs < WINDOW_MS) return
    const isNext = ageMs >= 0 && ageMs < 2 * WINDOW_MS
    const startMs = isNext ? this.#now.startMs + WINDOW_MS : nowMs
    this.#last = isNext ? this.#now : { startMs, numRequests: 0, numRetries: 0 }
    this.#now = { startMs, numRequests: 0, numRetries: 0 }
  }
}

/**
 * How long to wait before a retry: any time up to a bound that doubles with each retry.
 * @param numRetries retries of this request before, from 0
 * @param random in [0, 1)
 */
export const jitterMs = (numRetries: number, random: number): number =>
  random * Math.min(JITTER_BASE_MS * 2 ** numRetries, JITTER_MAX_MS)
