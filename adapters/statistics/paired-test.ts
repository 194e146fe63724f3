import { createRng } from '../optimise/rng.ts'
import { studentTQuantile } from './student-t.ts'

/** Up to this many pairs all 2^n signs are tried: a million sums, some 10 ms. */
const MAX_EXACT_PAIRS = 20
/** Signs drawn for more pairs; with them a p-value near 0.05 is known to ±0.003. */
const NUM_SIGN_DRAWS = 19_999
/** Stream of the generator; the draws are the same for all data, so a test repeated is repeated. */
const STREAM_SIGNS = 21
/** Sums this near, as a share of all differences' size, are equal: rounding must not decide. */
const TIE = 1e-9

/**
 * One-sided sign-flip test of paired differences: how often a sum as large as the one seen arises
 * where every difference may as well have the other sign. Exact up to `MAX_EXACT_PAIRS` pairs.
 * Nothing is assumed of the differences' spread, only that with nothing gained they are as likely
 * above as below zero; with few pairs the p-value cannot be small: at best 2^-n.
 * @param differences [pairs], positive where the new answer is better
 * @returns in (0, 1]
 * @throws {RangeError} no pairs, or a difference that is not finite
 * Source: Fisher 1935; Monte Carlo p-value as in Phipson and Smyth 2010
 */
export function signFlipTest(differences: readonly number[]): number {
  checkDifferences(differences, 1)
  const size = differences.reduce((sum, value) => sum + Math.abs(value), 0)
  const threshold = differences.reduce((sum, value) => sum + value, 0) - TIE * size
  if (differences.length <= MAX_EXACT_PAIRS) return exactShare(differences, threshold)
  const rng = createRng(0, STREAM_SIGNS)
  let numAsLarge = 0
  for (let draw = 0; draw < NUM_SIGN_DRAWS; draw++) {
    let sum = 0
    let bits = 0
    for (let i = 0; i < differences.length; i++) {
      if (i % 32 === 0) bits = Math.floor(rng.uniform() * 2 ** 32) | 0
      sum += (bits & 1) === 1 ? differences[i]! : -differences[i]!
      bits >>>= 1
    }
    if (sum >= threshold) numAsLarge++
  }
  return (1 + numAsLarge) / (1 + NUM_SIGN_DRAWS)
}

/** Share of all signs whose sum reaches the threshold, one sign changed at a time (Gray code). */
function exactShare(differences: readonly number[], threshold: number): number {
  const n = differences.length
  const signs = new Array<number>(n).fill(1)
  let sum = differences.reduce((total, value) => total + value, 0)
  let numAsLarge = sum >= threshold ? 1 : 0
  for (let code = 1; code < 2 ** n; code++) {
    const flipped = 31 - Math.clz32(code & -code)
    sum -= 2 * signs[flipped]! * differences[flipped]!
    signs[flipped]! *= -1
    if (sum >= threshold) numAsLarge++
  }
  return numAsLarge / 2 ** n
}

/**
 * Two-sided interval of the mean difference by Student's t.
 * @returns [low, high]; null for a single pair
 * @throws {RangeError} no pairs, or a difference that is not finite
 */
export function meanInterval(
  differences: readonly number[],
  confidence = 0.95,
): readonly [number, number] | null {
  checkDifferences(differences, 1)
  const n = differences.length
  if (n < 2) return null
  const { mean, error } = meanAndError(differences)
  const reach = studentTQuantile((1 + confidence) / 2, n - 1) * error
  return [mean - reach, mean + reach]
}

/**
 * The mean difference that a test at `level` would have found with probability `power`, had the
 * differences the spread they have here.
 * @returns null where so few pairs can reach no such level
 * @throws {RangeError} no pairs, or a difference that is not finite
 */
export function smallestDetectable(
  differences: readonly number[],
  level: number,
  power: number,
): number | null {
  checkDifferences(differences, 1)
  const n = differences.length
  if (n < 2 || 2 ** -n > level) return null
  const { error } = meanAndError(differences)
  return (studentTQuantile(1 - level, n - 1) + studentTQuantile(power, n - 1)) * error
}

function meanAndError(differences: readonly number[]): { mean: number; error: number } {
  const n = differences.length
  const mean = differences.reduce((sum, value) => sum + value, 0) / n
  const squares = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, error: Math.sqrt(squares / (n - 1) / n) }
}

function checkDifferences(differences: readonly number[], least: number): void {
  if (differences.length < least) throw new RangeError('no pairs')
  if (!differences.every(Number.isFinite)) throw new RangeError('a difference is not finite')
}
