import { createRng } from '../optimise/rng.ts'
import { studentTQuantile } from './student-t.ts'

/** Up to this many pairs the test tries all 2^n sign patterns: a million sums in about 10 ms. */
const MAX_EXACT_PAIRS = 20
/** Sign patterns drawn for more pairs; a p-value near 0.05 is then accurate to ±0.003. */
const NUM_SIGN_DRAWS = 19_999
/** Stream of the generator. Its seed is fixed, so a repeated test gives the same p-value. */
const STREAM_SIGNS = 21
/** Sums that differ by a smaller share of their size are equal, so that rounding does not decide. */
const TIE = 1e-9

/**
 * One-sided sign-flip test of paired differences. The p-value is the share of sign patterns whose sum
 * is at least the observed sum. Exact up to `MAX_EXACT_PAIRS` pairs. The test assumes only that,
 * without a gain, each difference is as likely positive as negative. With n pairs the p-value is at
 * least 2^-n.
 * @param differences [pairs], positive if the new answer is better
 * @returns p-value in (0, 1]
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

/** Share of all sign patterns whose sum reaches the threshold; a Gray code flips one sign at a time. */
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
 * @param differences [pairs]
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
 * The mean difference that a test at `level` detects with probability `power`, if the differences have
 * the variance of these.
 * @param differences [pairs]
 * @returns null if no result of so few pairs reaches `level`
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
