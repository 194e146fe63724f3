/** Redrawn at most this often. */
const REDRAW_INTERVAL_MS = 100
const BAR_LEN = 30
/** Where there is no terminal: a line each time this much more is done. */
const PLAIN_STEP = 0.25

/** What a progress report is written to; `process.stderr` in production. */
export interface ProgressOutput {
  readonly isTTY?: boolean
  write(text: string): unknown
}

/** A transfer's progress: a bar on a terminal, a few plain lines elsewhere. */
export class Progress {
  readonly #output: ProgressOutput
  readonly #label: string
  readonly #now: () => number
  #drawnAtMs = -Infinity
  #nextPlainShare = PLAIN_STEP

  constructor(output: ProgressOutput, label: string, now: () => number = Date.now) {
    this.#output = output
    this.#label = label
    this.#now = now
    if (output.isTTY !== true) output.write(`${label}\n`)
  }

  /** @param total 0 where it is not known */
  update(doneBytes: number, totalBytes: number): void {
    const share = totalBytes > 0 ? Math.min(1, doneBytes / totalBytes) : 0
    if (this.#output.isTTY === true) {
      const now = this.#now()
      if (now - this.#drawnAtMs < REDRAW_INTERVAL_MS && share < 1) return
      this.#drawnAtMs = now
      const filled = Math.round(share * BAR_LEN)
      const bar = '█'.repeat(filled) + '░'.repeat(BAR_LEN - filled)
      this.#output.write(`\r${this.#label} ${bar} ${this.#amount(doneBytes, totalBytes)}\u001B[K`)
    } else {
      if (share < this.#nextPlainShare) return
      this.#nextPlainShare = (Math.floor(share / PLAIN_STEP) + 1) * PLAIN_STEP
      this.#output.write(`${this.#label}: ${this.#amount(doneBytes, totalBytes)}\n`)
    }
  }

  /** Ends the bar's line. */
  finish(): void {
    if (this.#output.isTTY === true) this.#output.write('\n')
  }

  #amount(doneBytes: number, totalBytes: number): string {
    const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0)
    return totalBytes > 0
      ? `${megabytes(doneBytes)}/${megabytes(totalBytes)} MB`
      : `${megabytes(doneBytes)} MB`
  }
}
