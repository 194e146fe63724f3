/** Window, in ms, over which the reported share is measured. */
const REPORT_WINDOW_MS = 10_000

/**
 * Limits jobs to a share of the engine's time while live requests are present.
 *
 * A job's step that delays live requests adds its duration to a debt, and no further step of a job
 * begins until the debt is paid. Time with live requests pays `share / (1 - share)` of its
 * length; idle time pays in full. Over any period with live requests, jobs therefore get at most their share plus
 * one step. Without live requests they get everything.
 *
 * This class only does arithmetic: its caller reports when each step begins and ends.
 */
export class JobShare {
  /** In 0 < share ≤ 1. */
  readonly share: number
  #isLive = false
  #isJobRunning = false
  #debtMs = 0
  #asOfMs = 0
  /** Periods with live requests, the oldest first. */
  #stretches: [endMs: number, jobMs: number, totalMs: number][] = []

  constructor(share: number) {
    this.share = share
  }

  /** Live requests are there, or are no longer. */
  setLive(isLive: boolean, nowMs: number): void {
    this.#advance(nowMs)
    this.#isLive = isLive
  }

  /** A step of a job begins or ends. */
  setJobRunning(isRunning: boolean, nowMs: number): void {
    this.#advance(nowMs)
    this.#isJobRunning = isRunning
  }

  mayRun(nowMs: number): boolean {
    this.#advance(nowMs)
    return this.#debtMs <= 0
  }

  /** Quiet time after which a job may run; null while live requests are there. */
  quietMsNeeded(nowMs: number): number | null {
    this.#advance(nowMs)
    return this.#isLive ? null : this.#debtMs
  }

  /** Jobs' share of the recent time with live requests; 0 where there was none. */
  measured(nowMs: number): number {
    this.#advance(nowMs)
    this.#forget(nowMs)
    const [jobMs, totalMs] = this.#stretches.reduce(
      ([job, total], [, ownJob, ownTotal]) => [job + ownJob, total + ownTotal],
      [0, 0],
    )
    return totalMs === 0 ? 0 : jobMs / totalMs
  }

  #advance(nowMs: number): void {
    const passedMs = Math.max(0, nowMs - this.#asOfMs)
    this.#asOfMs = nowMs
    if (this.#isLive) {
      if (this.share < 1) {
        if (this.#isJobRunning) this.#debtMs += passedMs
        else this.#pay((passedMs * this.share) / (1 - this.share))
      }
      this.#record(nowMs, this.#isJobRunning ? passedMs : 0, passedMs)
    } else if (!this.#isJobRunning) this.#pay(passedMs)
  }

  #pay(ms: number): void {
    this.#debtMs = Math.max(0, this.#debtMs - ms)
  }

  #record(nowMs: number, jobMs: number, totalMs: number): void {
    if (totalMs === 0) return
    const last = this.#stretches.at(-1)
    // Joined to pieces of a hundredth of the window, so that the list stays short.
    if (last && nowMs - last[0] + last[2] < REPORT_WINDOW_MS / 100) {
      last[0] = nowMs
      last[1] += jobMs
      last[2] += totalMs
    } else this.#stretches.push([nowMs, jobMs, totalMs])
    this.#forget(nowMs)
  }

  #forget(nowMs: number): void {
    const since = nowMs - REPORT_WINDOW_MS
    while (this.#stretches.length > 0 && this.#stretches[0]![0] <= since) this.#stretches.shift()
  }
}
