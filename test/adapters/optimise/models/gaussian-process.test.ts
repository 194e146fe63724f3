import { describe, it } from 'vitest'
import { fitGaussianProcess } from '../../../../adapters/optimise/models/fit.ts'
import {
  conditionOn,
  distanceMatrix,
  type Posterior,
} from '../../../../adapters/optimise/models/gaussian-process.ts'
import { matern52 } from '../../../../adapters/optimise/models/matern.ts'
import { nelderMead } from '../../../../adapters/optimise/models/nelder-mead.ts'
import { packPoints } from '../../../../adapters/optimise/models/points.ts'
import { standardize } from '../../../../adapters/optimise/models/standardize.ts'
import { createRng } from '../../../../adapters/optimise/rng.ts'

function posteriorOf(
  rows: readonly (readonly number[])[],
  values: readonly number[],
  lengthScale: number,
  noiseRatio: number,
): Posterior {
  const points = packPoints(rows, rows[0]!.length)
  const hyperparameters = { lengthScale, noiseRatio }
  return conditionOn(points, distanceMatrix(points), Float64Array.from(values), hyperparameters)!
}

describe('Matérn 5/2', () => {
  it('equals its closed form', ({ expect }) => {
    expect(matern52(0, 3)).toBe(1)
    // s = 1: (1 + √5 + 5/3)·e^-√5
    expect(matern52(4, 2)).toBeCloseTo((1 + Math.sqrt(5) + 5 / 3) * Math.exp(-Math.sqrt(5)), 15)
  })
})

describe('conditioning on two points', () => {
  // k between them; the 2x2 inverse is written out.
  const k = matern52(1, 1)
  const noise = 0.1
  const posterior = posteriorOf([[0], [1]], [1, -1], 1, noise)
  const determinant = (1 + noise) ** 2 - k * k

  it('agrees with the closed form of mean, variance and likelihood', ({ expect }) => {
    const signal = (1 / (1 + noise - k)) * 1 // yᵀR⁻¹y / n for y = (1, -1)
    expect(posterior.signalVariance).toBeCloseTo(signal, 12)
    const atZero = posterior.predict(Float64Array.of(0))
    expect(atZero.mean).toBeCloseTo((1 - k) / (1 + noise - k), 12)
    const explained = ((1 + noise) * (1 + k * k) - 2 * k * k) / determinant
    expect(atZero.sigma).toBeCloseTo(Math.sqrt(signal * (1 - explained)), 12)
    expect(posterior.logMarginalLikelihood).toBeCloseTo(
      -0.5 * (2 * Math.log(2 * Math.PI * signal) + 2 + Math.log(determinant)),
      12,
    )
  })

  it('returns to the prior far away', ({ expect }) => {
    const far = posterior.predict(Float64Array.of(1000))
    expect(far.mean).toBeCloseTo(0, 12)
    expect(far.sigma).toBeCloseTo(Math.sqrt(posterior.signalVariance), 12)
  })
})

describe('the posterior', () => {
  const rng = createRng(3)
  const rows = Array.from({ length: 25 }, () => [rng.uniform(), rng.uniform(), rng.uniform()])
  const values = rows.map(([a, b, c]) => Math.sin(3 * a!) + b! * c!)

  it('passes through noise-free observations without uncertainty', ({ expect }) => {
    const posterior = posteriorOf(rows, values, 1, 1e-10)
    rows.forEach((row, i) => {
      const { mean, sigma } = posterior.predict(Float64Array.from(row))
      expect(mean).toBeCloseTo(values[i]!, 5)
      expect(sigma).toBeLessThan(1e-3)
    })
  })

  it('has the gradients that finite differences give, also at an observed point', ({ expect }) => {
    const posterior = posteriorOf(rows, values, 0.7, 1e-2)
    const step = 1e-6
    for (const point of [Float64Array.of(0.3, 0.6, 0.9), Float64Array.from(rows[4]!)]) {
      const byMean = new Float64Array(3)
      const bySigma = new Float64Array(3)
      const prediction = posterior.predictWithGradient(point, byMean, bySigma)
      expect(prediction).toEqual(posterior.predict(point))
      for (let axis = 0; axis < 3; axis++) {
        const above = posterior.predict(point.map((v, i) => (i === axis ? v + step : v)))
        const below = posterior.predict(point.map((v, i) => (i === axis ? v - step : v)))
        expect(byMean[axis]).toBeCloseTo((above.mean - below.mean) / (2 * step), 5)
        expect(bySigma[axis]).toBeCloseTo((above.sigma - below.sigma) / (2 * step), 5)
      }
    }
  })
})

describe('fitting', () => {
  const rng = createRng(8)
  const rows = Array.from({ length: 60 }, () => [2 * rng.uniform() - 1, 2 * rng.uniform() - 1])
  const fit = (values: readonly number[]): Posterior =>
    fitGaussianProcess(packPoints(rows, 2), standardize(values).values)

  it('finds that a smooth function has little noise and predicts it', ({ expect }) => {
    const f = (a: number, b: number): number => Math.sin(2 * a) + b * b
    const values = rows.map(([a, b]) => f(a!, b!))
    const posterior = fit(values)
    const { mean, deviation } = standardize(values)
    expect(posterior.hyperparameters.noiseRatio).toBeLessThan(1e-3)
    const predicted = posterior.predict(Float64Array.of(0.2, -0.4)).mean * deviation + mean
    expect(predicted).toBeCloseTo(f(0.2, -0.4), 2)
  })

  it('fits pure noise as noise', ({ expect }) => {
    const posterior = fit(rows.map(() => rng.normal()))
    expect(posterior.hyperparameters.noiseRatio).toBeGreaterThan(0.1)
  })

  it('is at least as likely as any point of a grid, up to the priors', ({ expect }) => {
    const values = rows.map(([a, b]) => Math.sin(4 * a!) + b! + 0.05 * rng.normal())
    const fitted = fit(values).logMarginalLikelihood
    const standard = Array.from(standardize(values).values)
    for (const lengthScale of [0.1, 0.3, 1, 3, 10]) {
      for (const noise of [1e-6, 1e-4, 1e-2, 0.3]) {
        // The wide priors may cost a little likelihood.
        expect(fitted).toBeGreaterThan(
          posteriorOf(rows, standard, lengthScale, noise).logMarginalLikelihood - 2,
        )
      }
    }
  })

  it('accepts equal values, repeated points and a single point', ({ expect }) => {
    for (const [points, values] of [
      [
        [[0.1], [0.2], [0.3]],
        [2, 2, 2],
      ],
      [
        [[0.5], [0.5], [0.5]],
        [1, 2, 3],
      ],
      [[[0.5]], [7]],
    ] as const) {
      const posterior = fitGaussianProcess(packPoints(points, 1), standardize(values).values)
      const { mean, sigma } = posterior.predict(Float64Array.of(0.9))
      expect(Number.isFinite(mean) && sigma > 0).toBe(true)
    }
  })

  it('refuses no points and values that are not finite', ({ expect }) => {
    expect(() => fitGaussianProcess(packPoints([], 1), new Float64Array(0))).toThrow(RangeError)
    expect(() => fitGaussianProcess(packPoints([[0]], 1), Float64Array.of(NaN))).toThrow(RangeError)
  })
})

describe('Nelder and Mead', () => {
  it('finds the minimum of Rosenbrock’s valley', ({ expect }) => {
    const valley = ([a, b]: readonly number[]): number => (1 - a!) ** 2 + 100 * (b! - a! * a!) ** 2
    const { x, value } = nelderMead(valley, [-1.2, 1], 0.5, 250)
    expect(x[0]).toBeCloseTo(1, 3)
    expect(x[1]).toBeCloseTo(1, 3)
    expect(value).toBeLessThan(1e-6)
  })

  it('avoids points without a value, within its budget', ({ expect }) => {
    let calls = 0
    const { x } = nelderMead(
      ([a]) => {
        calls++
        return a! < 0 ? NaN : a!
      },
      [1],
      0.5,
      40,
    )
    expect(x[0]).toBeGreaterThanOrEqual(0)
    expect(x[0]).toBeLessThan(0.01)
    // One iteration may evaluate twice past the check, and shrink.
    expect(calls).toBeLessThanOrEqual(44)
  })
})
