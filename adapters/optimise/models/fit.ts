import { conditionOn, distanceMatrix, type Posterior } from './gaussian-process.ts'
import { nelderMead } from './nelder-mead.ts'
import type { Points } from './points.ts'

/**
 * The most observations in a fit; a search with more omits some. The cost grows with their cube: 300
 * take about 0.3 s, and a Durable Object has 30 s of CPU.
 */
export const MAX_MODEL_POINTS = 300

/** A normal prior on the logarithm of a parameter, and the range of the logarithm. */
type LogPrior = {
  readonly mean: number
  readonly deviation: number
  readonly min: number
  readonly max: number
}

/**
 * Random points in [-1, 1]^d lie about √(2d/3) apart, so useful length scales grow with √d. The prior
 * is wide, so that the likelihood decides. Source: Hvarfner et al. 2024 (arXiv:2402.02229), rescaled
 * from the unit cube.
 */
const lengthScalePrior = (dimension: number): LogPrior => ({
  mean: Math.log(2 * Math.sqrt(dimension)),
  deviation: 1,
  min: Math.log(0.05 * Math.sqrt(dimension)),
  max: Math.log(50 * Math.sqrt(dimension)),
})

/**
 * The objective is deterministic; the noise models variation that the kernel cannot follow. Its lower
 * bound keeps the kernel matrix of near points well conditioned.
 */
const NOISE_PRIOR: LogPrior = {
  mean: Math.log(1e-3),
  deviation: 2,
  min: Math.log(1e-6),
  max: Math.log(0.5),
}

/** The likelihood may have two modes, signal or noise alone; a grid finds the better one. */
const LENGTH_SCALE_GRID = [-1.5, -0.75, 0, 0.75]
const NOISE_GRID = [-2, 1]
/** Edge of the first simplex, in log parameters. */
const SIMPLEX_STEP = 0.4
/** Finds both parameters to a few per cent; each evaluation costs one factorisation. */
const MAX_EVALUATIONS = 24

/**
 * Fits the length scale and the noise to their posterior mode and conditions on the values.
 * Deterministic: the same history gives the same model.
 * @param values [count], standardised
 * @throws {RangeError} there are no points, or one is not finite
 */
export function fitGaussianProcess(points: Points, values: Float64Array): Posterior {
  if (points.count === 0) throw new RangeError('no points to fit')
  if (!points.coordinates.every(Number.isFinite) || !values.every(Number.isFinite)) {
    throw new RangeError('points and values must be finite')
  }
  const distances = distanceMatrix(points)
  const lengthScale = lengthScalePrior(points.dimension)
  const condition = (x: readonly number[]): Posterior | null =>
    conditionOn(points, distances, values, {
      lengthScale: Math.exp(clamp(x[0]!, lengthScale)),
      noiseRatio: Math.exp(clamp(x[1]!, NOISE_PRIOR)),
    })
  const loss = (x: readonly number[]): number => {
    const posterior = condition(x)
    if (posterior === null) return Infinity
    // The penalty takes unclamped parameters, so that the prior leads back into the range.
    return (
      -posterior.logMarginalLikelihood + penalty(x[0]!, lengthScale) + penalty(x[1]!, NOISE_PRIOR)
    )
  }
  let best = { x: [lengthScale.mean, NOISE_PRIOR.mean] as readonly number[], value: Infinity }
  for (const i of LENGTH_SCALE_GRID) {
    for (const j of NOISE_GRID) {
      const x = [
        lengthScale.mean + i * lengthScale.deviation,
        NOISE_PRIOR.mean + j * NOISE_PRIOR.deviation,
      ]
      const value = loss(x)
      if (value < best.value) best = { x, value }
    }
  }
  const posterior = condition(nelderMead(loss, best.x, SIMPLEX_STEP, MAX_EVALUATIONS).x)
  if (posterior === null) throw new Error('the kernel matrix cannot be factored')
  return posterior
}

const clamp = (value: number, { min, max }: LogPrior): number => Math.min(max, Math.max(min, value))

const penalty = (value: number, { mean, deviation }: LogPrior): number =>
  0.5 * ((value - mean) / deviation) ** 2
