/** A mean of paired differences, with the interval that holds the true one 95 times in 100. */
export type PairedDifference = {
  readonly mean: number
  readonly low: number
  readonly high: number
  readonly numPairs: number
}

/** Of the standard normal distribution, two sides. */
const NORMAL_95 = 1.959964

/**
 * The mean difference b − a over items of unequal size (a ratio estimate: the sum of differences over
 * the sum of sizes), with a normal interval over items. Sizes of 1 give the plain paired mean.
 * @param a one value an item, a sum over its parts; `b` alike, of the same items
 * @param sizes parts of each item, > 0
 * @returns bounds NaN for a single item
 * @throws {RangeError} lengths differ, or there are no items
 * Source: Cochran 1977, Sampling Techniques, section 6.4
 */
export function pairedDifference(
  a: readonly number[],
  b: readonly number[],
  sizes: readonly number[] = a.map(() => 1),
): PairedDifference {
  const n = a.length
  if (n === 0 || b.length !== n || sizes.length !== n) {
    throw new RangeError(`${n}, ${b.length} and ${sizes.length} values are no pairs`)
  }
  const total = sizes.reduce((sum, size) => sum + size, 0)
  const differences = a.map((value, i) => b[i]! - value)
  const mean = differences.reduce((sum, value) => sum + value, 0) / total
  const squares = differences.reduce((sum, d, i) => sum + (d - mean * sizes[i]!) ** 2, 0)
  const half = (NORMAL_95 * Math.sqrt((n / (n - 1)) * squares)) / total
  return { mean, low: mean - half, high: mean + half, numPairs: n }
}
