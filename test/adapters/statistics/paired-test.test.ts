/**
 * References are scipy 1.17.1's: stats.t, stats.permutation_test (permutation_type "samples",
 * alternative "greater"), stats.ttest_1samp.
 */
import fc from 'fast-check'
import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import {
  meanInterval,
  signFlipTest,
  smallestDetectable,
} from '../../../adapters/statistics/paired-test.ts'
import { studentTCdf, studentTQuantile } from '../../../adapters/statistics/student-t.ts'

const TWELVE = [0.31, -0.12, 0.55, 0.08, -0.4, 0.9, 0.27, 0.05, -0.02, 0.61, 0.33, -0.25]
const THIRTY = [
  -0.281, -0.542, -0.004, 0.33, 0.688, 0.175, -0.156, -0.272, 0.494, 0.937, 0.256, -0.497, -0.359,
  0.92, 0.221, -0.746, 0.078, -0.462, -0.195, -0.124, -0.237, 0.397, 0.088, -0.175, 0.325, 0.535,
  -0.702, -0.008, -0.37, 0.033,
]

describe('Student’s t', () => {
  it('has scipy’s distribution function', ({ expect }) => {
    for (const [t, degrees, share] of [
      [0.5, 1, 0.6475836176504333],
      [-2.1, 3, 0.0632826012748423],
      [2.093024054408263, 19, 0.975],
      [1.7, 127, 0.9542106349914898],
      [6, 7, 0.9997288708289986],
    ] as const) {
      expect(studentTCdf(t, degrees)).toBeCloseTo(share, 12)
    }
  })

  it('has scipy’s quantiles, which invert the distribution function', ({ expect }) => {
    for (const [share, degrees, t] of [
      [0.975, 19, 2.0930240544083087],
      [0.95, 7, 1.8945786050900062],
      [0.8, 63, 0.8473639122756461],
      [0.2, 4, -0.9409645772351811],
      [0.9995, 2, 31.599054576445365],
    ] as const) {
      expect(studentTQuantile(share, degrees)).toBeCloseTo(t, 9)
    }
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 0.999, noNaN: true }), fc.nat(300), (share, n) => {
        const back = studentTCdf(studentTQuantile(share, n + 1), n + 1)
        return Math.abs(back - share) < 1e-9
      }),
    )
  })

  it('refuses an invalid share and invalid degrees of freedom', ({ expect }) => {
    expect(() => studentTQuantile(1, 3)).toThrow(RangeError)
    expect(() => studentTCdf(1, 0)).toThrow(RangeError)
  })
})

describe('the sign-flip test', () => {
  it('gives scipy’s exact p-value', ({ expect }) => {
    expect(signFlipTest(TWELVE)).toBeCloseTo(0.054443359375, 12)
  })

  it('approximates scipy’s p-value with more pairs than it can enumerate', ({ expect }) => {
    expect(Math.abs(signFlipTest(THIRTY) - 0.4438)).toBeLessThan(0.012)
    expect(signFlipTest(THIRTY)).toBe(signFlipTest(THIRTY))
  })

  it('has a p-value of at least 2^-n', ({ expect }) => {
    for (const n of [1, 2, 5, 10]) {
      expect(signFlipTest(new Array<number>(n).fill(0.3))).toBeCloseTo(2 ** -n, 12)
    }
    expect(signFlipTest([0, 0, 0])).toBe(1)
    expect(signFlipTest(new Array<number>(64).fill(0.1))).toBe(1 / 20_000)
  })

  it('does not depend on the unit or the order', ({ expect }) => {
    const shuffled = [...TWELVE].reverse()
    expect(signFlipTest(shuffled)).toBe(signFlipTest(TWELVE))
    expect(signFlipTest(TWELVE.map((value) => 1e6 * value))).toBe(signFlipTest(TWELVE))
    const [up, down] = [signFlipTest(TWELVE), signFlipTest(TWELVE.map((value) => -value))]
    expect(up + down).toBeGreaterThanOrEqual(1)
  })

  it('passes without a gain about as often as its level says', ({ expect }) => {
    const numTests = 2000
    const found = Array.from({ length: numTests }, (_, test) => {
      const rng = createRng(12, test)
      return signFlipTest(Array.from({ length: 12 }, () => rng.normal()))
    }).filter((pValue) => pValue <= 0.05).length
    expect(found / numTests).toBeGreaterThan(0.035)
    expect(found / numTests).toBeLessThan(0.065)
  })

  it('refuses no pairs and values that are not finite', ({ expect }) => {
    expect(() => signFlipTest([])).toThrow(RangeError)
    expect(() => signFlipTest([1, NaN])).toThrow(RangeError)
  })
})

describe('the size of a gain', () => {
  it('has scipy’s interval', ({ expect }) => {
    const [low, high] = meanInterval(TWELVE)!
    expect(low).toBeCloseTo(-0.04708079082714725, 10)
    expect(high).toBeCloseTo(0.43208079082714723, 10)
    expect(meanInterval([1])).toBeNull()
  })

  it('is detectable if a test at that level finds it four times in five', ({ expect }) => {
    const gain = smallestDetectable(TWELVE, 0.025, 0.8)!
    expect(gain).toBeCloseTo(0.3348836435420116, 10)
    // The spread of the twelve, and their mean moved to that gain.
    const mean = TWELVE.reduce((sum, value) => sum + value, 0) / TWELVE.length
    const spread = Math.sqrt(TWELVE.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 11)
    const numTests = 600
    const found = Array.from({ length: numTests }, (_, test) => {
      const rng = createRng(13, test)
      return signFlipTest(TWELVE.map(() => gain + spread * rng.normal()))
    }).filter((pValue) => pValue <= 0.025).length
    expect(found / numTests).toBeGreaterThan(0.74)
    expect(found / numTests).toBeLessThan(0.86)
  })

  it('shrinks with more examples, and is null if the level cannot be reached', ({ expect }) => {
    const twice = [...TWELVE, ...TWELVE]
    expect(smallestDetectable(twice, 0.025, 0.8)!).toBeLessThan(
      smallestDetectable(TWELVE, 0.025, 0.8)!,
    )
    expect(smallestDetectable([1, 2, 1, 2, 1], 0.025, 0.8)).toBeNull()
    expect(smallestDetectable([1, 2, 1, 2, 1, 2], 0.025, 0.8)).not.toBeNull()
  })
})
