import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  logExpectedImprovement,
  logExpectedImprovementGradient,
  logH,
} from '../../../../adapters/optimise/acquisition/log-expected-improvement.ts'
import { erfcx, logNormalCdf } from '../../../../adapters/optimise/acquisition/normal.ts'

// Reference values by mpmath 1.3 with 60 digits (4,000 below u = -30).
const LOG_H: readonly (readonly [number, number])[] = [
  [5, 1.6094379231264314],
  [1, 0.08002621884930694],
  [0, -0.91893853320467274],
  [-0.5, -1.6205162643873199],
  [-1, -2.4851210257126413],
  [-1.5, -3.5299359208057099],
  [-5, -16.74430116266099],
  [-10, -55.553122036122356],
  [-29.9, -454.72299811949627],
  [-30.1, -460.73628739874304],
  [-40, -808.29856835661996],
  [-100, -5010.1295788002498],
]
const ERFCX: readonly (readonly [number, number])[] = [
  [0, 1],
  [0.1, 0.89645697996912664],
  [0.46, 0.63678738383271303],
  [0.47, 0.63140051666003432],
  [1, 0.427583576155807],
  [3.9, 0.14031418160068974],
  [4.1, 0.13383411641865199],
  [10, 0.056140992743822586],
  [100, 0.0056416137829894329],
  [1e8, 5.6418958354775629e-9],
]
const LOG_CDF: readonly (readonly [number, number])[] = [
  [-40, -804.60844201375379],
  [-10, -53.231285150512471],
  [-1, -1.8410216450092635],
  [0, -0.69314718055994531],
  [1, -0.17275377902344989],
  [5, -2.8665161296376359e-7],
  [9, -1.1285884059538406e-19],
]

const relative = (actual: number, expected: number): number =>
  Math.abs(actual - expected) / Math.abs(expected)

describe('the normal distribution’s tails', () => {
  it.for(ERFCX)('erfcx(%d)', ([x, expected], { expect }) => {
    expect(relative(erfcx(x), expected)).toBeLessThan(2e-15)
  })
  it.for(LOG_CDF)('ln Φ(%d)', ([u, expected], { expect }) => {
    expect(relative(logNormalCdf(u), expected)).toBeLessThan(1e-14)
  })
})

describe('log expected improvement', () => {
  it.for(LOG_H)('ln h(%d) is the published closed form', ([u, expected], { expect }) => {
    expect(relative(logH(u), expected)).toBeLessThan(2e-13)
  })

  it('stays finite where expected improvement itself is zero in float64', ({ expect }) => {
    expect(logExpectedImprovement(0, 1e-3, 1)).toBeCloseTo(-500_021.64, 1)
    expect(logExpectedImprovement(0, 1e-7, 1)).toBeLessThan(-4e13)
  })

  it('is finite, and rises with the mean and with the uncertainty', ({ expect }) => {
    const sigmas = fc.double({ min: -6, max: 1, noNaN: true }).map((power) => 10 ** power)
    const means = fc.double({ min: -5, max: 5, noNaN: true })
    fc.assert(
      fc.property(means, sigmas, means, (mean, sigma, bestF) => {
        const value = logExpectedImprovement(mean, sigma, bestF)
        expect(Number.isFinite(value)).toBe(true)
        expect(logExpectedImprovement(mean + sigma / 10, sigma, bestF)).toBeGreaterThan(value)
        // Far above the best value, EI is mean - bestF alone, whatever the uncertainty.
        if (mean < bestF) {
          expect(logExpectedImprovement(mean, sigma * 1.1, bestF)).toBeGreaterThan(value)
        }
      }),
    )
  })

  it('has the gradient that finite differences give', ({ expect }) => {
    for (const u of [-200, -31, -29, -5, -1.01, -0.99, 0, 2]) {
      const sigma = 0.5
      const mean = 1 + u * sigma
      const { byMean, bySigma } = logExpectedImprovementGradient(mean, sigma, 1)
      const step = 1e-5
      const numericByMean =
        (logExpectedImprovement(mean + step, sigma, 1) -
          logExpectedImprovement(mean - step, sigma, 1)) /
        (2 * step)
      const numericBySigma =
        (logExpectedImprovement(mean, sigma + step, 1) -
          logExpectedImprovement(mean, sigma - step, 1)) /
        (2 * step)
      expect(relative(byMean, numericByMean)).toBeLessThan(1e-6)
      expect(relative(bySigma, numericBySigma)).toBeLessThan(1e-6)
    }
  })
})
