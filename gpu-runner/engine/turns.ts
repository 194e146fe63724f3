import { JobShare } from '../scheduler/job-share.ts'

/** Who a step is for: a request whose caller waits for it, or a job. */
export type Lane = 'live' | 'job'

type Waiter = { readonly lane: Lane; readonly begin: () => void }

/**
 * Runs one step at a time, since all steps use the same cores. Within a lane, steps run in the order in
 * which they were asked for. A job's step goes before live ones when {@link JobShare} allows it;
 * otherwise it waits.
 */
export class Turns {
  readonly #share: JobShare
  readonly #now: () => number
  readonly #waiting: Record<Lane, Waiter[]> = { live: [], job: [] }
  #isRunning = false
  #timer: NodeJS.Timeout | null = null

  /**
   * @param share what jobs may take of the engine's time while there are live requests, 0 < share ≤ 1
   */
  constructor(share = 1, now: () => number = () => performance.now()) {
    this.#share = new JobShare(share)
    this.#now = now
  }

  /**
   * Says whether there are live requests. There are some until the next call says otherwise, also
   * between steps.
   */
  setLive(isLive: boolean): void {
    this.#share.setLive(isLive, this.#now())
    this.#next()
  }

  /** What jobs took of the recent time with live requests. */
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
