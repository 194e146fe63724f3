import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { pairedDifference } from '../../../adapters/statistics/paired.ts'

describe('a paired difference', () => {
  it('of items with equal sizes is the mean and its normal interval', ({ expect }) => {
    const { mean, low, high, numPairs } = pairedDifference([0, 1, 1, 0], [1, 1, 0, 1])
    expect(mean).toBeCloseTo(0.25)
    // Differences 1, 0, −1, 1: deviation √(11/12), over √4.
    const half = (1.959964 * Math.sqrt(11 / 12)) / 2
    expect([low, high]).toEqual([
      expect.closeTo(0.25 - half, 9) as number,
      expect.closeTo(0.25 + half, 9) as number,
    ])
    expect(numPairs).toBe(4)
  })
  it('of items with unequal sizes weighs their parts equally', ({ expect }) => {
    expect(pairedDifference([10, 1], [20, 1.5], [10, 1]).mean).toBeCloseTo(10.5 / 11)
    // Every part is worse by 0.1, so the interval has no width.
    const sizes = [3, 50, 7]
    const exact = pairedDifference(
      [0, 0, 0],
      sizes.map((size) => size / 10),
      sizes,
    )
    expect(exact.low).toBeCloseTo(0.1, 9)
    expect(exact.high).toBeCloseTo(0.1, 9)
  })
  it('has an interval that holds the true difference about 95 times in 100', ({ expect }) => {
    const rng = createRng(6, 1)
    let held = 0
    for (let i = 0; i < 1000; i++) {
      const sizes = Array.from({ length: 60 }, () => 1 + Math.floor(20 * rng.uniform()))
      const b = sizes.map((size) => size * (0.3 + rng.normal()))
      const { low, high } = pairedDifference(new Array<number>(60).fill(0), b, sizes)
      if (low <= 0.3 && 0.3 <= high) held++
    }
    expect(held).toBeGreaterThan(920)
    expect(held).toBeLessThan(970)
  })
  it('is refused without items or with unequal lengths', ({ expect }) => {
    expect(() => pairedDifference([], [])).toThrow(RangeError)
    expect(() => pairedDifference([1], [1, 2])).toThrow(RangeError)
    expect(pairedDifference([1], [2]).low).toBeNaN()
  })
})
