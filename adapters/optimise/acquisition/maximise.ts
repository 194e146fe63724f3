import type { Posterior } from '../models/gaussian-process.ts'
import type { Rng } from '../rng.ts'
import { projectToBall } from '../subspace/ball.ts'
import {
  logExpectedImprovement,
  logExpectedImprovementGradient,
} from './log-expected-improvement.ts'

/** The searched region: the box around `center`, intersected with [-1, 1] and the ball. */
export type Region = {
  readonly center: Float64Array
  /** Half the box's width. */
  readonly halfWidth: number
  readonly radius: number
}

export type MaximiseOptions = {
  readonly rawSamples: number
  /** Number of the best raw samples that gradient ascent refines. */
  readonly numRestarts: number
  readonly numSteps: number
  /** Average number of coordinates in which a raw sample differs from the centre. */
  readonly perturbedCoordinates: number
}

type Candidate = { readonly point: Float64Array; readonly value: number }

/** First step of an ascent, as a share of the region's half width. */
const FIRST_STEP = 0.2
/** An ascent ends when its step has shrunk to this share of the region's half width. */
const LAST_STEP = 1e-3

/**
 * Maximises log expected improvement in a region. Raw samples differ from the centre in a few
 * coordinates, because in many dimensions a step in all of them leaves the centre's neighbourhood.
 * Projected gradient ascent refines the best samples.
 * @param bestF best observation so far, standardised
 * @returns the best point found, [dimension]
 * Source: the sampling, TuRBO-1, Eriksson et al. 2019 (arXiv:1910.01739)
 */
export function maximiseAcquisition(
  posterior: Posterior,
  bestF: number,
  region: Region,
  options: MaximiseOptions,
  rng: Rng,
): Float64Array {
  const evaluate = (point: Float64Array): Candidate => {
    const { mean, sigma } = posterior.predict(point)
    return { point, value: logExpectedImprovement(mean, sigma, bestF) }
  }
  const raw = Array.from({ length: options.rawSamples }, () =>
    evaluate(rawSample(region, options.perturbedCoordinates, rng)),
  )
  raw.sort((a, b) => b.value - a.value)
  const refined = raw
    .slice(0, options.numRestarts)
    .map((start) => ascend(start, posterior, bestF, region, options.numSteps, evaluate))
  return [...refined, raw[0]!].reduce((a, b) => (b.value > a.value ? b : a)).point
}

function rawSample(region: Region, perturbedCoordinates: number, rng: Rng): Float64Array {
  const dimension = region.center.length
  const chance = Math.min(1, perturbedCoordinates / dimension)
  const always = Math.floor(rng.uniform() * dimension)
  const point = region.center.map((value, k) =>
    k === always || rng.uniform() < chance
      ? value + region.halfWidth * (2 * rng.uniform() - 1)
      : value,
  )
  return project(point, region)
}

/** Steps along the gradient's direction; the step grows after a gain and halves after a loss. */
function ascend(
  start: Candidate,
  posterior: Posterior,
  bestF: number,
  region: Region,
  numSteps: number,
  evaluate: (point: Float64Array) => Candidate,
): Candidate {
  const dimension = start.point.length
  const meanGradient = new Float64Array(dimension)
  const sigmaGradient = new Float64Array(dimension)
  const gradient = new Float64Array(dimension)
  let current = start
  let step = FIRST_STEP * region.halfWidth
  let stale = true
  for (let i = 0; i < numSteps && step > LAST_STEP * region.halfWidth; i++) {
    if (stale) {
      const { mean, sigma } = posterior.predictWithGradient(
        current.point,
        meanGradient,
        sigmaGradient,
      )
      const { byMean, bySigma } = logExpectedImprovementGradient(mean, sigma, bestF)
      for (let k = 0; k < dimension; k++) {
        gradient[k] = byMean * meanGradient[k]! + bySigma * sigmaGradient[k]!
      }
    }
    const norm = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0))
    if (!(norm > 0) || norm === Infinity) break
    const moved = current.point.map((value, k) => value + (step / norm) * gradient[k]!)
    const next = evaluate(project(moved, region))
    stale = next.value > current.value
    if (stale) current = next
    step *= stale ? 1.5 : 0.5
  }
  return current
}

/** Moves a point into the box, then toward the origin into the ball, which may leave the box a little. */
function project(point: Float64Array, { center, halfWidth, radius }: Region): Float64Array {
  for (let k = 0; k < point.length; k++) {
    const low = Math.max(-1, center[k]! - halfWidth)
    const high = Math.min(1, center[k]! + halfWidth)
    point[k] = Math.min(high, Math.max(low, point[k]!))
  }
  return projectToBall(point, radius)
}
