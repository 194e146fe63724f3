import {
  choleskyWithJitter,
  logDeterminant,
  solveLower,
  solveLowerTransposed,
} from '../../linalg/cholesky.ts'
import { matern52, matern52Slope } from './matern.ts'
import { type Points, squaredDistances } from './points.ts'

/** One length scale for all coordinates, in their unit; noise variance as a share of the signal's. */
export type Hyperparameters = {
  readonly lengthScale: number
  readonly noiseRatio: number
}

/** A Gaussian process conditioned on values at points. */
export type Posterior = {
  readonly hyperparameters: Hyperparameters
  /** Variance of the signal, by maximum likelihood given the hyperparameters. */
  readonly signalVariance: number
  /** ln p(values | points, hyperparameters). */
  readonly logMarginalLikelihood: number
  /** Posterior mean and standard deviation of the noise-free value at a point, [dimension]. */
  readonly predict: (point: Float64Array) => Prediction
  /** As `predict`; also writes the gradients by the point, [dimension] each. */
  readonly predictWithGradient: (
    point: Float64Array,
    meanGradient: Float64Array,
    sigmaGradient: Float64Array,
  ) => Prediction
}
export type Prediction = { readonly mean: number; readonly sigma: number }

/** A smaller variance is rounding error; at an observed point it cancels to about 1e-16. */
const SMALLEST_VARIANCE = 1e-14

/** Squared distances between all points, [count, count]; only the lower triangle is filled. */
export function distanceMatrix(points: Points): Float64Array {
  const { coordinates, count, dimension } = points
  const matrix = new Float64Array(count * count)
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < i; j++) {
      let sum = 0
      for (let k = 0; k < dimension; k++) {
        const difference = coordinates[i * dimension + k]! - coordinates[j * dimension + k]!
        sum += difference * difference
      }
      matrix[i * count + j] = sum
    }
  }
  return matrix
}

/**
 * Gaussian process regression with zero mean and a Matérn 5/2 kernel s²·(k + noiseRatio·I). The signal
 * variance s² is not a parameter, because its most likely value has a closed form.
 * @param distances `distanceMatrix` of `points`
 * @param values [count], standardised
 * @returns null if the kernel matrix cannot be factored
 * Source: Rasmussen and Williams 2006, algorithm 2.1 and section 2.3
 */
export function conditionOn(
  points: Points,
  distances: Float64Array,
  values: Float64Array,
  hyperparameters: Hyperparameters,
): Posterior | null {
  const { count, dimension, coordinates } = points
  const { lengthScale, noiseRatio } = hyperparameters
  const kernel = new Float64Array(count * count)
  for (let i = 0; i < count; i++) {
    const row = i * count
    for (let j = 0; j < i; j++) kernel[row + j] = matern52(distances[row + j]!, lengthScale)
    kernel[row + i] = 1 + noiseRatio
  }
  const factored = choleskyWithJitter(kernel, count)
  if (factored === null) return null
  const { factor } = factored
  const weights = values.slice()
  solveLower(factor, count, weights)
  let fit = 0
  for (const weight of weights) fit += weight * weight
  const signalVariance = Math.max(fit / count, SMALLEST_VARIANCE)
  solveLowerTransposed(factor, count, weights)
  const logMarginalLikelihood =
    -0.5 * (count * (Math.log(2 * Math.PI * signalVariance) + 1) + logDeterminant(factor, count))

  const distance = new Float64Array(count)
  const solved = new Float64Array(count)

  const predict = (point: Float64Array): Prediction => {
    squaredDistances(points, point, distance)
    let mean = 0
    for (let i = 0; i < count; i++) {
      const k = matern52(distance[i]!, lengthScale)
      solved[i] = k
      mean += k * weights[i]!
    }
    solveLower(factor, count, solved)
    let explained = 0
    for (let i = 0; i < count; i++) explained += solved[i]! * solved[i]!
    const variance = signalVariance * Math.max(1 - explained, SMALLEST_VARIANCE)
    return { mean, sigma: Math.sqrt(variance) }
  }

  const predictWithGradient: Posterior['predictWithGradient'] = (
    point,
    meanGradient,
    sigmaGradient,
  ) => {
    const prediction = predict(point)
    solveLowerTransposed(factor, count, solved)
    meanGradient.fill(0)
    sigmaGradient.fill(0)
    // dσ = dσ²/2σ and dσ² = -2·s²·Σ solved·dk.
    const sigmaFactor = -signalVariance / prediction.sigma
    for (let i = 0; i < count; i++) {
      const slope = matern52Slope(distance[i]!, lengthScale)
      const forMean = slope * weights[i]!
      const forSigma = slope * solved[i]! * sigmaFactor
      for (let k = 0; k < dimension; k++) {
        const difference = point[k]! - coordinates[i * dimension + k]!
        meanGradient[k]! += forMean * difference
        sigmaGradient[k]! += forSigma * difference
      }
    }
    return prediction
  }
  return { hyperparameters, signalVariance, logMarginalLikelihood, predict, predictWithGradient }
}
