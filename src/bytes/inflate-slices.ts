/** A byte inflates to at most 1,032, so a slice makes at most 1 MiB before its output is counted. */
const MAX_SLICE_BYTES = 1024
const FIRST_SLICE_BYTES = 64

/**
 * Says how much of a deflated stream to inflate at a time. The first slices are small, because the
 * code is slow until V8 has compiled it, and a hostile stream may begin with what inflates most.
 */
export class InflateSlices {
  #next = FIRST_SLICE_BYTES

  next(): number {
    const bytes = this.#next
    this.#next = Math.min(2 * bytes, MAX_SLICE_BYTES)
    return bytes
  }
}
