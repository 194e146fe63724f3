/** Spreads the seeds of one request: 2^32 divided by the golden ratio. */
const SEED_STEP = 0x9e3779b9

/**
 * Seeds of the answers to one request: the first is the request's own, so that it is the answer
 * which the same request gives with n = 1. Without a seed each is drawn by the runner.
 */
export function deriveSeeds(seed: number | undefined, count: number): (number | undefined)[] {
  return Array.from({ length: count }, (_, i) =>
    seed === undefined || i === 0 ? seed : mix((seed + i * SEED_STEP) >>> 0),
  )
}

/** Source: MurmurHash3's 32-bit finaliser (Austin Appleby, public domain); a bijection */
function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
