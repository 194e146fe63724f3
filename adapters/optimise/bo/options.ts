import type { MaximiseOptions } from '../acquisition/maximise.ts'
import type { TrustRegionOptions } from './trust-region.ts'

export type BoOptions = TrustRegionOptions &
  MaximiseOptions & {
    /**
     * Number of random directions, at most the number of angles. With directions from gradients: the
     * most groups of examples, each of which gives one direction.
     */
    readonly dimension: number
    /** The search does not rotate layers below this share of the depth. */
    readonly firstLayerShare: number
    /** Largest root mean square of the rotated layers' angles, radians: the radius of the ball. */
    readonly maxRmsAngle: number
    /** Largest coordinate along one direction, as a share of the ball's radius. */
    readonly boxShare: number
    /** Trials in the first round, including the identity; later rounds use the model. */
    readonly numInitial: number
    /** Scale of the initial design, as a share of the ball's radius. */
    readonly initialShare: number
  }

/** Options that both kinds of subspace share. */
const COMMON: Omit<BoOptions, 'dimension' | 'maxRmsAngle' | 'boxShare' | 'perturbedCoordinates'> = {
  // Layers 5-29 of 30. Large angles in the first layers destroy the input of the later ones. Small
  // angles along gradients do as well with all layers.
  firstLayerShare: 1 / 6,
  // The identity and 15 points show the scale of the objective; 40 did no better.
  numInitial: 16,
  // Not compared with other values: large enough for a measurable effect, and well inside the ball.
  initialShare: 0.5,
  // TuRBO's values, except that TuRBO waits for as many failures as dimensions, more than the budget.
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

/** Defaults for random directions, measured on validation rows: docs/decisions/0003-bo-defaults.md. */
export const RANDOM_BO_OPTIONS: BoOptions = {
  ...COMMON,
  // As many directions as a usual job has trials, and 2% of SmolLM2-135M's angles. With 20 directions
  // the search found the best rotation of the subspace by the 50th trial, and it was a poor one.
  dimension: 150,
  // A norm of 70 over 7,200 angles. In so small a subspace the search needs larger angles than a
  // gradient fit (0.1-0.25). At 1.2 it fits the examples better but new rows worse.
  maxRmsAngle: 0.82,
  boxShare: 0.2,
  perturbedCoordinates: 75,
}

/**
 * Defaults for directions from the examples' gradients, measured on validation rows:
 * docs/decisions/0003-bo-defaults.md.
 */
export const DIRECTED_BO_OPTIONS: BoOptions = {
  ...COMMON,
  // Twenty examples give twenty directions. More than 32 were not tried.
  dimension: 32,
  // A norm of 14 over 7,200 angles; 10 and 20 do nearly as well.
  maxRmsAngle: 0.165,
  boxShare: 1 / 3,
  perturbedCoordinates: 20,
}
