/**
 * Pairs of a preferred and a rejected text: examples 2p and 2p + 1 make pair p. The loss of a pair is
 * −log σ(margin). With gap = log p(preferred) − log p(rejected), margin = β·(gap − the base model's gap).
 * Source: Rafailov et al. 2023, arXiv:2305.18290
 */

/**
 * @param logProbs log p of each text, [2 × pairs], natural log
 * @param base the same under the base model
 * @returns margins, [pairs]
 * @throws {RangeError} the lengths differ or are odd
 */
export function preferenceMargins(
  logProbs: ArrayLike<number>,
  base: ArrayLike<number>,
  beta: number,
): number[] {
  if (logProbs.length !== base.length || logProbs.length % 2 !== 0) {
    throw new RangeError(`${logProbs.length} and ${base.length} values are not pairs`)
  }
  const gapOf = (values: ArrayLike<number>, pair: number): number =>
    values[2 * pair]! - values[2 * pair + 1]!
  return Array.from({ length: logProbs.length / 2 }, (_, pair) => {
    return beta * (gapOf(logProbs, pair) - gapOf(base, pair))
  })
}

/** log σ(margin), without overflow. */
export const logSigmoid = (margin: number): number =>
  margin < 0 ? margin - Math.log1p(Math.exp(margin)) : -Math.log1p(Math.exp(-margin))

/**
 * Weights of the texts with which the gradient of −Σ weight·log p is the gradient of the pairs' loss:
 * share·β·σ(−margin) for the preferred text, and its negative for the rejected one.
 * @param margins [pairs]
 * @param shares the weight of each pair's loss, [pairs]
 * @returns [2 × pairs]
 */
export const preferenceWeights = (
  margins: readonly number[],
  beta: number,
  shares: readonly number[],
): number[] =>
  margins.flatMap((margin, pair) => {
    const weight = shares[pair]! * beta * Math.exp(logSigmoid(-margin))
    return [weight, -weight]
  })
