/** A mean of paired differences, with its 95% interval. */
export type PairedDifference = {
  readonly mean: number
  readonly low: number
  readonly high: number
  readonly numPairs: number
}

/** The two-sided 95% quantile of the standard normal distribution. */
const NORMAL_95 = 1.959964

/**
 * The mean difference b − a over items of unequal size, with a normal interval over items. It is a ratio
 * estimate: the sum of the differences over the sum of the sizes. Sizes of 1 give the paired mean.
 * @param a sum over each item's parts, [items]
 * @param b the same for the other arm, [items]
 * @param sizes number of parts of each item, > 0, [items]; 1 by default
 * @returns bounds are NaN for a single item
 * @throws {RangeError} the lengths differ, or there are no items
 * Source: Cochran 1977, Sampling Techniques, section 6.4
 */
export function pairedDifference(
  a: readonly number[],
  b: readonly number[],
  sizes: readonly number[] = a.map(() => 1),
): PairedDifference {
  const n = a.length
  if (n === 0 || b.length !== n || sizes.length !== n) {
    throw new RangeError(`${n}, ${b.length} and ${sizes.length} values are not pairs`)
  }
  const total = sizes.reduce((sum, size) => sum + size, 0)
  const differences = a.map((value, i) => b[i]! - value)
  const mean = differences.reduce((sum, value) => sum + value, 0) / total
  const squares = differences.reduce((sum, d, i) => sum + (d - mean * sizes[i]!) ** 2, 0)
  const half = (NORMAL_95 * Math.sqrt((n / (n - 1)) * squares)) / total
  return { mean, low: mean - half, high: mean + half, numPairs: n }
}
