import {
  logSigmoid,
  preferenceMargins,
  preferenceWeights,
} from '../../adapters/objective/preference.ts'
import type { GradientAnswer, GradientQuery } from '../../adapters/optimise/gradient/gradient.ts'
import { differentiate } from './differentiate.ts'
import type { Evaluation } from './evaluate.ts'

/** A usual choice; a larger beta keeps the fit closer to the base model. */
export const DEFAULT_BETA = 0.1

/**
 * Differentiates the loss of pairs. Its gradient is a weighted sum of the texts' gradients, and the
 * weights follow from the texts' log probabilities. A first call measures those; a second one has
 * the weights. At the identity all margins are zero, so one call is enough.
 * @param base log probabilities of all texts under the base model; null at the identity
 * @returns the gradient of the pairs' loss, and the base model's log probabilities
 */
export async function differentiatePairs(
  evaluation: Evaluation,
  asked: GradientQuery,
  beta: number,
  base: readonly number[] | null,
): Promise<{ readonly answer: GradientAnswer; readonly base: readonly number[] }> {
  // The weights follow from the log probabilities, so all of those are needed.
  const query: GradientQuery = { ...asked, skipsUnweighted: false }
  const numTexts = evaluation.dataset.gold.length
  const rowOf = (values: Float32Array, candidate: number): Float32Array =>
    values.subarray(candidate * numTexts, (candidate + 1) * numTexts)
  const marginsOf = ({ logProbs }: GradientAnswer): number[][] =>
    Array.from({ length: query.numCandidates }, (_, candidate) =>
      base === null
        ? new Array<number>(numTexts / 2).fill(0)
        : preferenceMargins(rowOf(logProbs, candidate), base, beta),
    )
  const probe =
    base === null
      ? null
      : await differentiate(evaluation, {
          ...query,
          weights: new Float32Array(query.weights.length),
        })
  const margins = marginsOf(probe ?? { logProbs: new Float32Array(0), gradient: query.values })
  const weights = Float32Array.from(
    margins.flatMap((row, candidate) => {
      // The search weighs texts; a pair weighs as much as its two texts together.
      const own = rowOf(query.weights, candidate)
      const shares = row.map((_, pair) => own[2 * pair]! + own[2 * pair + 1]!)
      return preferenceWeights(row, beta, shares)
    }),
  )
  const { logProbs, gradient } = await differentiate(evaluation, { ...query, weights })
  return {
    base: base ?? Array.from(rowOf(logProbs, 0)),
    answer: {
      gradient,
      logProbs: Float32Array.from(
        margins.flatMap((row) => row.flatMap((margin) => [logSigmoid(margin), logSigmoid(margin)])),
      ),
    },
  }
}
