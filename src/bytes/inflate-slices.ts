/** Deflate makes at most 1,032 bytes of one, so a slice makes at most 1 MiB before it is counted. */
const MAX_SLICE_BYTES = 1024
const FIRST_SLICE_BYTES = 64

/**
 * How much of a deflated stream to inflate at a time. The first slices are small: code that has not
 * run before is slow until V8 has compiled it, and a hostile stream inflates most at once.
 */
export class InflateSlices {
  #next = FIRST_SLICE_BYTES

  next(): number {
    const bytes = this.#next
    this.#next = Math.min(2 * bytes, MAX_SLICE_BYTES)
    return bytes
  }
}
