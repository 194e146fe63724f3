/**
 * Where the engine's time goes. `prefill` and `decode` are runs of the graphs for live requests,
 * `sampling` is reading their logits, `jobs` are whole turns of jobs, and `scheduling` is the rest of
 * the step loop: copying rows and making events. Time in none of them is `idle`.
 */
export const PHASES = ['prefill', 'decode', 'sampling', 'jobs', 'scheduling'] as const
export type Phase = (typeof PHASES)[number]

export type ProfileRow = {
  readonly phase: Phase | 'idle'
  readonly count: number
  readonly seconds: number
  /** Fraction of the time since the start, 0..1. */
  readonly share: number
}

/** Sums of durations by phase, since the start. */
export class Profile {
  readonly #now: () => number
  readonly #startMs: number
  readonly #sums = new Map(PHASES.map((phase) => [phase, { count: 0, ms: 0 }]))

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#startMs = now()
  }

  add(phase: Phase, ms: number): void {
    const sum = this.#sums.get(phase)!
    sum.count += 1
    sum.ms += ms
  }

  /** Books how long a piece of work takes; if it returns a promise, until that settles. */
  timed<T>(phase: Phase, work: () => T): T {
    const startMs = this.#now()
    const book = (): void => {
      this.add(phase, this.#now() - startMs)
    }
    const result = work()
    if (result instanceof Promise) void result.then(book, book)
    else book()
    return result
  }

  /** Milliseconds booked under some phases. */
  ms(...phases: Phase[]): number {
    return phases.reduce((sum, phase) => sum + this.#sums.get(phase)!.ms, 0)
  }

  rows(): ProfileRow[] {
    const totalMs = this.#now() - this.#startMs
    const rows = [...this.#sums].map(([phase, { count, ms }]) => rowOf(phase, count, ms, totalMs))
    return [...rows, rowOf('idle', 0, Math.max(0, totalMs - this.ms(...PHASES)), totalMs)]
  }

  /** The rows as a table of text. */
  format(): string {
    const lines = this.rows().map(({ phase, count, seconds, share }) => {
      const mean = count === 0 ? '' : ((seconds * 1000) / count).toFixed(2)
      return [
        phase.padEnd(10),
        seconds.toFixed(2).padStart(10),
        `${(100 * share).toFixed(1)} %`.padStart(8),
        String(count || '').padStart(9),
        mean.padStart(9),
      ].join(' ')
    })
    return ['phase         seconds    share     count   ms each', ...lines].join('\n')
  }
}

const rowOf = (
  phase: ProfileRow['phase'],
  count: number,
  ms: number,
  totalMs: number,
): ProfileRow => ({
  phase,
  count,
  seconds: ms / 1000,
  share: totalMs === 0 ? 0 : ms / totalMs,
})
