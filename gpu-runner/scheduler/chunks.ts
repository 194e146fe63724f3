/**
 * Most tokens in one prefill call. Boundaries stand at multiples of it, so a prompt's numbers never
 * depend on load, and a long prompt delays running rows by one chunk at a time.
 */
export const PREFILL_CHUNK_LEN = 128

/** @returns [start, end) of each chunk of a prompt of `length` tokens */
export function prefillChunks(length: number): (readonly [number, number])[] {
  const chunks: (readonly [number, number])[] = []
  for (let start = 0; start < length; start += PREFILL_CHUNK_LEN) {
    chunks.push([start, Math.min(start + PREFILL_CHUNK_LEN, length)])
  }
  return chunks
}
