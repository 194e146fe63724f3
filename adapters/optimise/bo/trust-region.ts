import { isSuccess } from '../history.ts'
import type { Observation } from '../optimiser.ts'

/** How a trust region grows and shrinks; lengths are fractions of the domain's width. */
export type TrustRegionOptions = {
  readonly startLength: number
  readonly minLength: number
  readonly maxLength: number
  /** Successive trials without a better one that halve it. */
  readonly failuresToShrink: number
  /** Successive trials each better than all before that double it. */
  readonly successesToGrow: number
}

/** An improvement smaller than this share of the best value's size is no success (TuRBO). */
const SMALLEST_IMPROVEMENT = 1e-3

/**
 * The length that the history leads to, by replaying it. A region that shrinks below the minimum
 * begins again at its first length, around the same best point: with a budget of some hundred
 * trials there is none to spare for a new initial design.
 * @param history trials in order; the first `numInitial` set the best value and count for nothing
 * more. A failed trial counts as one without a better value.
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
    // The first value of all is a success with nothing to be held against.
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
