import type { MaximiseOptions } from '../acquisition/maximise.ts'
import type { TrustRegionOptions } from './trust-region.ts'

export type BoOptions = TrustRegionOptions &
  MaximiseOptions & {
    /**
     * Random directions searched, no more than there are angles; or into how many groups examples
     * are put at most, each of which gives a direction.
     */
    readonly dimension: number
    /** Layers below this share of the depth are not rotated. */
    readonly firstLayerShare: number
    /** Largest root mean square of all rotated layers' angles, radians: the ball's radius. */
    readonly maxRmsAngle: number
    /** How far one direction alone may be followed, as a share of the ball's radius. */
    readonly boxShare: number
    /** Trials before the model is used, the identity among them; one round. */
    readonly numInitial: number
    /** How far out the initial design lies, as a share of the ball's radius. */
    readonly initialShare: number
  }

/** What both subspaces have in common. */
const COMMON: Omit<BoOptions, 'dimension' | 'maxRmsAngle' | 'boxShare' | 'perturbedCoordinates'> = {
  // Layers 5-29 of 30. Large angles in the first layers undo what the later ones read; small ones
  // along gradients do as well with all layers.
  firstLayerShare: 1 / 6,
  // Identity and 15 points: enough to see the scale of the objective; 40 did no better.
  numInitial: 16,
  // Chosen, not compared: large enough to be seen, and away from the bound's curvature.
  initialShare: 0.5,
  // TuRBO's, with a shorter patience: its failures grow with the dimension past the whole budget.
  startLength: 0.8,
  minLength: 2 ** -7,
  maxLength: 1.6,
  failuresToShrink: 8,
  successesToGrow: 3,
  // About 60 ms at 150 observations.
  rawSamples: 512,
  numRestarts: 4,
  numSteps: 20,
}

/** Along random directions. Measured on validation rows: docs/decisions/0003-bo-defaults.md. */
export const RANDOM_BO_OPTIONS: BoOptions = {
  ...COMMON,
  // As many directions as a usual job has trials: with 20 the best rotation of the subspace was
  // found by the 50th trial and was a poor one. 2% of SmolLM2-135M's angles.
  dimension: 150,
  // A norm of 70 over 7,200 angles. In so small a subspace the search needs larger angles than
  // gradient fits (0.1-0.25); at 1.2 it fits the examples better and new rows worse.
  maxRmsAngle: 0.82,
  boxShare: 0.2,
  perturbedCoordinates: 75,
}

/**
 * Along given directions, the examples' gradients. Measured on validation rows:
 * docs/decisions/0003-bo-defaults.md.
 */
export const DIRECTED_BO_OPTIONS: BoOptions = {
  ...COMMON,
  // Twenty examples give twenty. More than 32 were not tried.
  dimension: 32,
  // A norm of 14 over 7,200 angles; 10 and 20 do nearly as well.
  maxRmsAngle: 0.165,
  boxShare: 1 / 3,
  perturbedCoordinates: 20,
}
