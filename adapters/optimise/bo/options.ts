import type { MaximiseOptions } from '../acquisition/maximise.ts'
import type { TrustRegionOptions } from './trust-region.ts'

export type BoOptions = TrustRegionOptions &
  MaximiseOptions & {
    /** Random directions searched. */
    readonly dimension: number
    /** Layers below this share of the depth are not rotated. */
    readonly firstLayerShare: number
    /** Largest Euclidean norm of all angles together, radians. */
    readonly maxNorm: number
    /** How far one direction alone may be followed, as a share of `maxNorm`. */
    readonly boxShare: number
    /** Trials before the model is used, the identity among them; one round. */
    readonly numInitial: number
  }

export const DEFAULT_BO_OPTIONS: BoOptions = {
  // Twenty reached most of what was reached with 150 trials; a model of more has too few of them.
  dimension: 20,
  // Layers 10-29 of 30: the later layers decide the answer, the earlier ones read the prompt.
  firstLayerShare: 1 / 3,
  // Over 5,760 angles this is 0.18 rad a pair, as large as gradient fits become.
  maxNorm: 14,
  boxShare: 0.5,
  // Identity and 15 points: enough to see the scale of the objective, a tenth of the usual budget.
  numInitial: 16,
  // TuRBO's, with a shorter patience: its d = 20 failures would be a seventh of the budget.
  startLength: 0.8,
  minLength: 2 ** -7,
  maxLength: 1.6,
  failuresToShrink: 8,
  successesToGrow: 3,
  // About 20 ms at 150 observations.
  rawSamples: 512,
  numRestarts: 4,
  numSteps: 20,
  perturbedCoordinates: 8,
}
