const UINT32_RANGE = 2 ** 32

/**
 * Seeded uniform numbers in [0, 1).
 * Source: sfc32 of PractRand (Chris Doty-Humphrey, public domain), seeded by one 32-bit word
 */
export function createRng(seed: number): () => number {
  let a = seed >>> 0
  let b = 0x9e3779b9
  let c = 0x243f6a88
  let counter = 1
  const next = (): number => {
    const sum = (a + b + counter) >>> 0
    counter = (counter + 1) >>> 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) >>> 0
    c = ((c << 21) | (c >>> 11)) >>> 0
    c = (c + sum) >>> 0
    return sum / UINT32_RANGE
  }
  // The first outputs of similar seeds are similar, so they are thrown away.
  for (let i = 0; i < 12; i++) next()
  return next
}
