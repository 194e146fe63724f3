import { describe, it } from 'vitest'
import { balancedGain } from '../../../adapters/statistics/balanced-gain.ts'

describe('the gain in balanced accuracy', () => {
  it('weighs every class equally, however many examples it has', ({ expect }) => {
    // Class 0: three of four right against none; class 1: one of two against both.
    const gold = [0, 0, 0, 0, 1, 1]
    const { gain, interval } = balancedGain([0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1], gold)
    expect(gain).toBeCloseTo((3 / 4 - 1 / 2) / 2, 12)
    // Pooled variance (3·(1/4)² + (3/4)² + 2·(1/2)²) / 4 = 0.3125; error √(0.3125·(1/4 + 1/2)) / 2;
    // t at 0.975 with 4 degrees of freedom is 2.776445.
    const reach = (2.776445 * Math.sqrt(0.3125 * 0.75)) / 2
    expect(interval![0]).toBeCloseTo(gain - reach, 5)
    expect(interval![1]).toBeCloseTo(gain + reach, 5)
  })

  it('has no interval if no class has two examples', ({ expect }) => {
    expect(balancedGain([0, 1], [0, 0], [0, 1])).toEqual({ gain: 0.5, interval: null })
  })

  it('is zero for equal answers, and refuses lengths that differ', ({ expect }) => {
    expect(balancedGain([0, 1, 1], [0, 1, 1], [0, 1, 0]).gain).toBe(0)
    expect(() => balancedGain([0], [0, 1], [0, 1])).toThrow(RangeError)
    expect(() => balancedGain([], [], [])).toThrow(RangeError)
  })
})
