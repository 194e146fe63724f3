/** Shortest time between two drawings of the bar. */
const REDRAW_INTERVAL_MS = 100
const BAR_LEN = 30
/** Without a terminal, a line is written each time this much more is done. */
const PLAIN_STEP = 0.25

/** Where progress is written; `process.stderr` by default. */
export interface ProgressOutput {
  readonly isTTY?: boolean
  write(text: string): unknown
}

/** Shows a transfer's progress: as a bar on a terminal, otherwise as a few lines. */
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

  /** @param total 0 where it is unknown */
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
