import { joinChunks } from '../bytes/join-chunks.ts'

/** Several times as long as a prompt that fills the model's context. */
export const MAX_LINE_BYTES = 256 * 1024

const LF = 0x0a

/** Cuts bytes into lines, however they are cut into chunks. It holds at most one line in memory. */
export class LineSplitter {
  readonly #onLine: (number: number, bytes: Uint8Array | 'too_long') => void
  #pending: Uint8Array[] = []
  #pendingBytes = 0
  #isTooLong = false
  #number = 1

  /** @param onLine called with each line's number, from 1, and its bytes without the line feed */
  constructor(onLine: (number: number, bytes: Uint8Array | 'too_long') => void) {
    this.#onLine = onLine
  }

  push(chunk: Uint8Array): void {
    let start = 0
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, start)) {
      this.#keep(chunk.subarray(start, at))
      this.#finishLine()
      start = at + 1
    }
    this.#keep(chunk.subarray(start))
  }

  /** The last line need not end in a line feed. */
  end(): void {
    if (this.#pendingBytes > 0 || this.#isTooLong) this.#finishLine()
  }

  #keep(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#isTooLong) return
    this.#pendingBytes += bytes.length
    if (this.#pendingBytes > MAX_LINE_BYTES) {
      this.#isTooLong = true
      this.#pending = []
      // Copied, because the caller may use its chunk again before the line is complete.
    } else this.#pending.push(bytes.slice())
  }

  #finishLine(): void {
    const line = this.#isTooLong ? 'too_long' : this.#join()
    this.#onLine(this.#number, line)
    this.#number += 1
    this.#pending = []
    this.#pendingBytes = 0
    this.#isTooLong = false
  }

  #join(): Uint8Array {
    const [only] = this.#pending
    if (only !== undefined && this.#pending.length === 1) return only
    return joinChunks(this.#pending)
  }
}
