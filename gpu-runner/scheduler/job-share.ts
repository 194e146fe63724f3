/** Window over which the reported share is measured. */
const REPORT_WINDOW_MS = 10_000

/**
 * Limits jobs to a share of the engine's time while there are live requests.
 *
 * While there are live requests, the duration of a job's step is a debt, and no job's step begins until
 * the debt is paid. Time in which no job runs pays it: with live requests `share / (1 - share)` of its
 * length, without them all of its length. Over any period with live requests, jobs therefore get at most
 * their share plus one step. Without live requests they get everything.
 *
 * This class only does arithmetic: its caller reports when each step begins and ends.
 */
export class JobShare {
  /** 0 < share ≤ 1. */
  readonly share: number
  #isLive = false
  #isJobRunning = false
  #debtMs = 0
  #asOfMs = 0
  /** Periods with live requests, the oldest first. */
  #periods: [endMs: number, jobMs: number, totalMs: number][] = []

  constructor(share: number) {
    this.share = share
  }

  /** Says whether there are live requests from now on. */
  setLive(isLive: boolean, nowMs: number): void {
    this.#advance(nowMs)
    this.#isLive = isLive
  }

  /** Says that a job's step begins or ends. */
  setJobRunning(isRunning: boolean, nowMs: number): void {
    this.#advance(nowMs)
    this.#isJobRunning = isRunning
  }

  mayRun(nowMs: number): boolean {
    this.#advance(nowMs)
    return this.#debtMs <= 0
  }

  /** How long no job may run yet if no live request comes; null while there are live requests. */
  quietMsNeeded(nowMs: number): number | null {
    this.#advance(nowMs)
    return this.#isLive ? null : this.#debtMs
  }

  /** Jobs' share of the recent time with live requests; 0 where there was no such time. */
  measured(nowMs: number): number {
    this.#advance(nowMs)
    this.#forget(nowMs)
    const [jobMs, totalMs] = this.#periods.reduce(
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
    const last = this.#periods.at(-1)
    // Short periods are joined up to a hundredth of the window, so that the list stays short.
    if (last && nowMs - last[0] + last[2] < REPORT_WINDOW_MS / 100) {
      last[0] = nowMs
      last[1] += jobMs
      last[2] += totalMs
    } else this.#periods.push([nowMs, jobMs, totalMs])
    this.#forget(nowMs)
  }

  #forget(nowMs: number): void {
    const since = nowMs - REPORT_WINDOW_MS
    while (this.#periods.length > 0 && this.#periods[0]![0] <= since) this.#periods.shift()
  }
}
