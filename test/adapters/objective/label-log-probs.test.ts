import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  applyBias,
  batchCalibration,
  LOG_PROB_FLOOR,
  logSumExp,
  meanLogProb,
} from '../../../adapters/objective/label-log-probs.ts'

const logs = (...rows: number[][]): number[][] => rows.map((row) => row.map(Math.log))

/** Normalised rows of three labels. */
const logProbs = fc.array(
  fc
    .array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 3, maxLength: 3 })
    .map((row) => row.map((value) => value - logSumExp(row))),
  { minLength: 1, maxLength: 20 },
)
const biases = fc.array(fc.double({ min: -20, max: 20, noNaN: true }), {
  minLength: 3,
  maxLength: 3,
})

describe('meanLogProb', () => {
  it('is the mean over examples of the right label’s log probability', ({ expect }) => {
    const value = meanLogProb(logs([0.5, 0.25, 0.25], [0.1, 0.8, 0.1]), [1, 1])
    expect(value).toBeCloseTo((Math.log(0.25) + Math.log(0.8)) / 2, 14)
  })

  it('stays finite for a label of probability zero', ({ expect }) => {
    expect(meanLogProb([[0, -Infinity]], [1])).toBe(LOG_PROB_FLOOR)
  })

  it('refuses no examples, missing labels and labels outside the rows', ({ expect }) => {
    expect(() => meanLogProb([], [])).toThrow(RangeError)
    expect(() => meanLogProb(logs([0.5, 0.5]), [])).toThrow(RangeError)
    expect(() => meanLogProb(logs([0.5, 0.5]), [2])).toThrow(/label 2/)
    expect(() => meanLogProb([[0], [0, 0]], [0, 0])).toThrow(/unequal/)
  })
})

describe('batchCalibration', () => {
  it('is minus the mean log probability of each label, centred', ({ expect }) => {
    // Means of logs: (ln .8 + ln .2)/2 = ln .4 for both of the first, and the mirrored second.
    const bias = batchCalibration(logs([0.8, 0.2], [0.2, 0.8]))
    expect(bias[0]).toBeCloseTo(0, 14)
    const skewed = batchCalibration(logs([0.9, 0.1], [0.9, 0.1]))
    expect(skewed[0]).toBeCloseTo(-Math.log(9) / 2, 14)
    expect(skewed[1]).toBeCloseTo(Math.log(9) / 2, 14)
  })

  it('sums to zero, and leaves nothing to calibrate once applied', ({ expect }) => {
    fc.assert(
      fc.property(logProbs, (rows) => {
        const bias = batchCalibration(rows)
        expect(bias.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 10)
        for (const value of batchCalibration(applyBias(rows, bias))) {
          expect(value).toBeCloseTo(0, 10)
        }
      }),
    )
  })
})

describe('applyBias', () => {
  it('multiplies the odds of the labels', ({ expect }) => {
    const [row] = applyBias(logs([0.9, 0.1]), [0, Math.log(9)])
    expect(row!.map(Math.exp)[0]).toBeCloseTo(0.5, 14)
  })

  it('gives rows that sum to one, shifts log ratios by the bias, and ignores a constant', ({
    expect,
  }) => {
    fc.assert(
      fc.property(logProbs, biases, (rows, bias) => {
        const moved = applyBias(rows, bias)
        const shifted = applyBias(
          rows,
          bias.map((value) => value + 3),
        )
        moved.forEach((row, i) => {
          expect(logSumExp(row)).toBeCloseTo(0, 10)
          expect(row[0]! - row[1]!).toBeCloseTo(
            rows[i]![0]! - rows[i]![1]! + bias[0]! - bias[1]!,
            10,
          )
          row.forEach((value, k) => {
            expect(shifted[i]![k]).toBeCloseTo(value, 10)
          })
        })
      }),
    )
  })

  it('refuses a bias of another length', ({ expect }) => {
    expect(() => applyBias(logs([0.5, 0.5]), [0])).toThrow(RangeError)
  })
})
