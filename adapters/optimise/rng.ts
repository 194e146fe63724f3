/** A stream of pseudo-random numbers; the same seed and stream give the same numbers anywhere. */
export type Rng = {
  /** Uniform in [0, 1), 53 bits. */
  readonly uniform: () => number
  /** Standard normal. */
  readonly normal: () => number
}

/** Outputs of sfc32 thrown away at the start, as its author advises, to mix a poor seed. */
const WARM_UP = 16

/**
 * A generator for one purpose: draws for trial 7 are the same whether or not trial 6 was computed
 * by this process, which is what makes a job repeatable after a crash.
 * @param seed the job's seed, any safe integer
 * @param stream whole numbers that name the purpose, for example (purpose, trial)
 * Source: sfc32 of PractRand (Chris Doty-Humphrey), keyed by MurmurHash3's finaliser
 */
export function createRng(seed: number, ...stream: readonly number[]): Rng {
  const words = [seed, ...stream].flatMap((value) => [
    value >>> 0,
    Math.floor(value / 2 ** 32) >>> 0,
  ])
  const key = (salt: number): number =>
    words.reduce((hash, word) => mix(Math.imul(hash, 0x9e3779b1) ^ word), salt)
  let a = key(1)
  let b = key(2)
  let c = key(3)
  let counter = 1
  const next = (): number => {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum
    c |= 0
    return sum >>> 0
  }
  for (let i = 0; i < WARM_UP; i++) next()

  const uniform = (): number => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) * 2 ** -53
  // Box-Muller without its second value: no state but sfc32's. 1 - u is never 0.
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
  return { uniform, normal }
}

/** The numbers 0..n-1 in a random order (Fisher-Yates shuffle). */
export function permutation(n: number, rng: Rng): number[] {
  const order = Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(rng.uniform() * (i + 1))
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}

/** Every bit of the result depends on every bit of the word. */
function mix(word: number): number {
  let h = word
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
