/**
 * McNemar's exact test of two answerers on the same examples. Only the examples that one of them answers
 * right and the other wrong say which is better. If neither is, each of these is a fair coin.
 * @param won examples that only the first answers right
 * @param lost examples that only the second answers right
 * @returns two-sided p-value, in (0, 1]
 * @throws {RangeError} a count is negative or not whole
 * Source: McNemar 1947, doi:10.1007/BF02295996
 */
export function mcnemarTest(won: number, lost: number): number {
  if (![won, lost].every((count) => Number.isSafeInteger(count) && count >= 0)) {
    throw new RangeError(`${won} and ${lost} are not counts`)
  }
  const total = won + lost
  const fewer = Math.min(won, lost)
  // log of C(total, k) / 2^total, from k = 0, since 2^-total itself may be too small for a number.
  let logTerm = -total * Math.LN2
  let tail = Math.exp(logTerm)
  for (let k = 1; k <= fewer; k++) {
    logTerm += Math.log((total - k + 1) / k)
    tail += Math.exp(logTerm)
  }
  return Math.min(1, 2 * tail)
}

/**
 * p-values of several comparisons that are read together, adjusted so that the chance of calling any
 * difference that is not there stays below the level.
 * @returns in the order of `pValues`, each at least as large
 * Source: Holm 1979, doi:10.2307/4615733
 */
export function holmAdjust(pValues: readonly number[]): number[] {
  const adjusted = new Array<number>(pValues.length)
  const ascending = pValues.map((_, i) => i).sort((a, b) => pValues[a]! - pValues[b]!)
  let largest = 0
  ascending.forEach((index, rank) => {
    largest = Math.max(largest, Math.min(1, (pValues.length - rank) * pValues[index]!))
    adjusted[index] = largest
  })
  return adjusted
}
