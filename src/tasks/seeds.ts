/** Spreads the seeds of one request: 2^32 divided by the golden ratio. */
const SEED_STEP = 0x9e3779b9

/**
 * The seeds of a request's answers. The first answer has the request's own seed, so it is the same
 * as with n = 1. Without a seed the runner draws one for each answer.
 */
export function deriveSeeds(seed: number | undefined, count: number): (number | undefined)[] {
  return Array.from({ length: count }, (_, i) =>
    seed === undefined || i === 0 ? seed : mix((seed + i * SEED_STEP) >>> 0),
  )
}

/** Mixes the bits of a seed; a bijection. Source: MurmurHash3's 32-bit finaliser (public domain) */
function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
