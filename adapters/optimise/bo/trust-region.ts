import { isSuccess } from '../history.ts'
import type { Observation } from '../optimiser.ts'

/** How a trust region grows and shrinks; lengths are shares of the domain's width. */
export type TrustRegionOptions = {
  readonly startLength: number
  readonly minLength: number
  readonly maxLength: number
  /** Number of successive trials without an improvement that halves the region. */
  readonly failuresToShrink: number
  /** Number of successive improvements that doubles the region. */
  readonly successesToGrow: number
}

/** A smaller gain, as a share of the best value's size, is not an improvement (as in TuRBO). */
const SMALLEST_IMPROVEMENT = 1e-3

/**
 * Replays the history to find the region's current length. A region that shrinks below `minLength`
 * starts again at `startLength` around the same best point, because a budget of about a hundred trials
 * has none to spare for a new initial design.
 * @param history trials in order; the first `numInitial` only set the best value. A failed trial counts
 * as one without an improvement.
 * @returns a share of the domain's width
 * Source: TuRBO-1, Eriksson et al. 2019 (arXiv:1910.01739)
 */
export function trustRegionLength(
  history: readonly Observation[],
  numInitial: number,
  options: TrustRegionOptions,
): number {
  let length = options.startLength
  let best = -Infinity
  let successes = 0
  let failures = 0
  history.forEach((observation, i) => {
    const value = isSuccess(observation) ? observation.value : -Infinity
    // The first value is an improvement, because there is none to compare it with.
    const threshold = best === -Infinity ? best : best + SMALLEST_IMPROVEMENT * Math.abs(best)
    const better = value > threshold
    best = Math.max(best, value)
    if (i < numInitial) return
    successes = better ? successes + 1 : 0
    failures = better ? 0 : failures + 1
    if (successes === options.successesToGrow) {
      length = Math.min(2 * length, options.maxLength)
      successes = 0
    } else if (failures === options.failuresToShrink) {
      length /= 2
      failures = 0
      if (length < options.minLength) length = options.startLength
    }
  })
  return length
}
