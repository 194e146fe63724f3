import { JobShare } from '../scheduler/job-share.ts'

/** Who asks for the cores: requests that somebody waits for, or a job's calls. */
export type Lane = 'live' | 'job'

type Waiter = { readonly lane: Lane; readonly begin: () => void }

/**
 * One step at a time on the cores. Each lane is served in order of asking; between them a job's step
 * goes first where {@link JobShare} lets it, and else waits for live requests to have had their part.
 */
export class Turns {
  readonly #share: JobShare
  readonly #now: () => number
  readonly #waiting: Record<Lane, Waiter[]> = { live: [], job: [] }
  #isRunning = false
  #timer: NodeJS.Timeout | null = null

  /** @param share of the engine's time that jobs may take while live requests are there */
  constructor(share = 1, now: () => number = () => performance.now()) {
    this.#share = new JobShare(share)
    this.#now = now
  }

  /** Live requests are there until it is said that they are not, between their steps too. */
  setLive(isLive: boolean): void {
    this.#share.setLive(isLive, this.#now())
    this.#next()
  }

  /** Jobs' part of the recent time in which live requests were there. */
  get measuredShare(): number {
    return this.#share.measured(this.#now())
  }

  get jobShare(): number {
    return this.#share.share
  }

  async run<T>(lane: Lane, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((resolve) => {
      this.#waiting[lane].push({ lane, begin: resolve })
      this.#next()
    })
    try {
      return await work()
    } finally {
      if (lane === 'job') this.#share.setJobRunning(false, this.#now())
      this.#isRunning = false
      this.#next()
    }
  }

  #next(): void {
    if (this.#isRunning) return
    const waiter = this.#choose()
    if (!waiter) return
    this.#isRunning = true
    if (waiter.lane === 'job') this.#share.setJobRunning(true, this.#now())
    waiter.begin()
  }

  #choose(): Waiter | undefined {
    const { live, job } = this.#waiting
    if (job.length > 0) {
      if (this.#share.mayRun(this.#now())) return job.shift()
      const quietMs = this.#share.quietMsNeeded(this.#now())
      if (quietMs !== null) this.#wakeAfter(quietMs)
    }
    return live.shift()
  }

  #wakeAfter(ms: number): void {
    if (this.#timer) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#next()
    }, Math.ceil(ms))
  }
}
