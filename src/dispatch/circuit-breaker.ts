/** So many failures in a row open a circuit. */
const FAILURES_TO_OPEN = 2
const OPEN_BASE_MS = 250
const OPEN_MAX_MS = 5_000
/** A probe that has not ended by then was lost with its request. The next call is then the probe. */
const PROBE_TIMEOUT_MS = 30_000

/** A call that a circuit has let through. */
export type Call = { readonly startedAtMs: number; readonly isProbe: boolean }

/** How long a circuit stays open after a number of failures in a row, in ms. */
export function circuitOpenMs(numFailures: number): number {
  if (numFailures < FAILURES_TO_OPEN) return 0
  return Math.min(OPEN_BASE_MS * 2 ** (numFailures - FAILURES_TO_OPEN), OPEN_MAX_MS)
}

/**
 * Keeps calls away from a node that fails them. A closed circuit lets every call through. Two
 * failures in a row open it for a while. Then it is half-open and lets one call through, the probe:
 * if that succeeds the circuit closes, if it fails the circuit opens for twice as long. All times
 * are milliseconds since the epoch.
 */
export class CircuitBreaker {
  #numFailures = 0
  #openedAtMs = -Infinity
  #openUntilMs = -Infinity
  #probeStartedAtMs = -Infinity

  stateAt(nowMs: number): 'closed' | 'open' | 'half_open' {
    if (this.#numFailures < FAILURES_TO_OPEN) return 'closed'
    return nowMs < this.#openUntilMs ? 'open' : 'half_open'
  }

  /** Whether the last call that ended failed. */
  get hasFailed(): boolean {
    return this.#numFailures > 0
  }

  /** Whether a call may begin now. */
  admitsAt(nowMs: number): boolean {
    const state = this.stateAt(nowMs)
    if (state !== 'half_open') return state === 'closed'
    return nowMs - this.#probeStartedAtMs >= PROBE_TIMEOUT_MS
  }

  /** @returns null if no call may begin now */
  begin(nowMs: number): Call | null {
    if (!this.admitsAt(nowMs)) return null
    const isProbe = this.stateAt(nowMs) === 'half_open'
    if (isProbe) this.#probeStartedAtMs = nowMs
    return { startedAtMs: nowMs, isProbe }
  }

  succeed(call: Call): void {
    if (this.#isOutdated(call)) return
    this.#numFailures = 0
    this.#endProbe()
  }

  fail(call: Call, nowMs: number): void {
    // When a node dies, all its running answers fail. They count as one failure.
    if (this.#isOutdated(call)) return
    this.#numFailures += 1
    this.#endProbe()
    const openMs = circuitOpenMs(this.#numFailures)
    if (openMs === 0) return
    this.#openedAtMs = nowMs
    this.#openUntilMs = nowMs + openMs
  }

  /**
   * Ends a call that says nothing about the node: its caller left, or its request was impossible.
   */
  release(call: Call): void {
    if (call.isProbe && !this.#isOutdated(call)) this.#endProbe()
  }

  /** Whether the call began before the circuit last opened. */
  #isOutdated(call: Call): boolean {
    return !call.isProbe && call.startedAtMs <= this.#openedAtMs
  }

  #endProbe(): void {
    this.#probeStartedAtMs = -Infinity
  }
}
