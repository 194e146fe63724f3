import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import { layOut } from '../../rotation/layout.ts'
import type { Geometry, Rotation } from '../../rotation/rotation.ts'
import type { GradientAnswer, GradientQuery } from '../gradient/gradient.ts'

/**
 * A query for the log probabilities of each fold's examples under the rotation that was fitted without
 * that fold.
 * @param folds fold of each example, [examples]
 * @param rotations one per fold for each choice in turn, [choices · folds]
 */
export function heldOutQuery(
  geometry: Geometry,
  folds: readonly number[],
  rotations: readonly Rotation[],
): GradientQuery {
  const layers = Array.from({ length: geometry.numLayers }, (_, layer) => layer)
  const { hasLogScale, values } = layOut(rotations, layers, geometry)
  const numFolds = countFolds(folds)
  const weights = new Float32Array(rotations.length * folds.length)
  for (let candidate = 0; candidate < rotations.length; candidate++) {
    for (const [example, fold] of folds.entries()) {
      const isHeldOut = candidate % numFolds === fold
      weights[candidate * folds.length + example] = isHeldOut ? 1 : 0
    }
  }
  const numCandidates = rotations.length
  const examples = null
  return { numCandidates, layers, hasLogScale, values, weights, examples, skipsUnweighted: true }
}

/**
 * Reads the answer to a `heldOutQuery`.
 * @returns held-out losses in nats, summed over each fold's examples, [choices][folds]
 * @throws {RangeError} the answer has another shape
 */
export function heldOutLosses(
  { logProbs }: GradientAnswer,
  folds: readonly number[],
  numChoices: number,
): number[][] {
  const numFolds = countFolds(folds)
  if (logProbs.length !== numChoices * numFolds * folds.length) {
    throw new RangeError(`the answer has ${logProbs.length} log probabilities`)
  }
  return Array.from({ length: numChoices }, (_, i) => {
    const foldLosses = new Array<number>(numFolds).fill(0)
    for (const [example, fold] of folds.entries()) {
      const logProb = logProbs[(i * numFolds + fold) * folds.length + example]!
      foldLosses[fold]! -= Math.max(logProb, LOG_PROB_FLOOR)
    }
    return foldLosses
  })
}

const countFolds = (folds: readonly number[]): number => 1 + Math.max(...folds)
