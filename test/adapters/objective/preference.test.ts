import { describe, it } from 'vitest'
import {
  logSigmoid,
  preferenceMargins,
  preferenceWeights,
} from '../../../adapters/objective/preference.ts'

const BETA = 0.3
const base = [-10, -12, -7, -3]
const logProbs = [-9, -14, -8, -2.5]

describe('pairs of texts', () => {
  it('have margins over the base model', ({ expect }) => {
    const [first, second] = preferenceMargins(logProbs, base, BETA)
    expect(first).toBeCloseTo(BETA * (5 - 2), 12)
    expect(second).toBeCloseTo(BETA * (-5.5 - -4), 12)
    expect(() => preferenceMargins([1, 2], [1], 1)).toThrow(RangeError)
    expect(() => preferenceMargins([1], [1], 1)).toThrow(RangeError)
  })

  it('have weights with which the texts’ gradient is that of the loss', ({ expect }) => {
    const shares = [0.25, 0.75]
    const lossAt = (values: readonly number[]) =>
      preferenceMargins(values, base, BETA).reduce(
        (sum, margin, pair) => sum - shares[pair]! * logSigmoid(margin),
        0,
      )
    const weights = preferenceWeights(preferenceMargins(logProbs, base, BETA), BETA, shares)
    const step = 1e-5
    for (const [i, weight] of weights.entries()) {
      const moved = (by: number) =>
        lossAt(logProbs.map((value, j) => (i === j ? value + by : value)))
      expect((moved(step) - moved(-step)) / (2 * step)).toBeCloseTo(-weight, 8)
    }
  })

  it('have a finite loss at any margin', ({ expect }) => {
    expect(logSigmoid(0)).toBeCloseTo(-Math.LN2, 12)
    expect(logSigmoid(-1000)).toBe(-1000)
    expect(logSigmoid(1000)).toBe(-0)
  })
})
