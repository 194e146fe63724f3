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
 * Differentiates the pairs' loss by way of the targets' gradients: their weights follow from the log
 * probabilities as they stand, which a first call gives. At the identity all margins are zero, and one
 * call does.
 * @param base log probabilities of all texts under the base model; null at the identity
 * @returns the answer in the pairs' loss, and the base model's log probabilities
 */
export async function differentiatePairs(
  evaluation: Evaluation,
  asked: GradientQuery,
  beta: number,
  base: readonly number[] | null,
): Promise<{ readonly answer: GradientAnswer; readonly base: readonly number[] }> {
  // Weights follow from log probabilities, so that all of them are needed.
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
      // The search weighs texts; a pair counts as much as its two.
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
