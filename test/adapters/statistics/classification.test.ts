import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  accuracy,
  balancedAccuracy,
  calibrationError,
  confusionMatrix,
  logLoss,
  predictLabels,
  weightedF1,
} from '../../../adapters/statistics/classification.ts'

// Class 0: 4 examples, 3 right. Class 1: 2 examples, 1 right. Class 2: none, predicted once.
const gold = [0, 0, 0, 0, 1, 1]
const predicted = [0, 0, 0, 1, 1, 2]
const matrix = confusionMatrix(gold, predicted, 3)

const labels = fc
  .array(fc.tuple(fc.nat(3), fc.nat(3)), { minLength: 1, maxLength: 40 })
  .map((pairs) => ({ gold: pairs.map(([a]) => a), predicted: pairs.map(([, b]) => b) }))

describe('confusion matrix', () => {
  it('counts by gold row and predicted column', ({ expect }) => {
    expect(matrix).toEqual([
      [3, 1, 0],
      [0, 1, 1],
      [0, 0, 0],
    ])
  })

  it('refuses classes outside, unequal lengths and no examples', ({ expect }) => {
    expect(() => confusionMatrix([3], [0], 3)).toThrow(RangeError)
    expect(() => confusionMatrix([0], [3], 3)).toThrow(RangeError)
    expect(() => confusionMatrix([0], [-1], 3)).toThrow(RangeError)
    expect(() => confusionMatrix([0, 1], [0], 3)).toThrow(RangeError)
    expect(() => confusionMatrix([], [], 3)).toThrow(RangeError)
  })
})

describe('scores computed by hand', () => {
  it('accuracy is 4 of 6', ({ expect }) => {
    expect(accuracy(matrix)).toBeCloseTo(4 / 6, 15)
  })

  it('balanced accuracy ignores the class without examples', ({ expect }) => {
    expect(balancedAccuracy(matrix)).toBeCloseTo((3 / 4 + 1 / 2) / 2, 15)
  })

  it('weighted F1 weighs each class by its examples', ({ expect }) => {
    // Class 0: 2·3/(4+3) = 6/7. Class 1: 2·1/(2+2) = 1/2.
    expect(weightedF1(matrix)).toBeCloseTo((4 * (6 / 7) + 2 * 0.5) / 6, 15)
  })

  it('always guessing one class has a balanced accuracy of chance', ({ expect }) => {
    const constant = confusionMatrix([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], new Array(10).fill(0), 2)
    expect(accuracy(constant)).toBe(0.8)
    expect(balancedAccuracy(constant)).toBe(0.5)
    expect(weightedF1(constant)).toBeCloseTo((8 * (16 / 18)) / 10, 15)
  })

  it('log loss is in nats', ({ expect }) => {
    const rows = [
      [Math.log(0.5), Math.log(0.5)],
      [Math.log(0.2), Math.log(0.8)],
    ]
    expect(logLoss(rows, [0, 0])).toBeCloseTo((Math.LN2 + Math.log(5)) / 2, 14)
    expect(logLoss([[0, -Infinity]], [0])).toBe(0)
  })

  it('calibration error sums the bins’ gaps', ({ expect }) => {
    const row = (p: number): number[] => [Math.log(p), Math.log(1 - p)]
    // Bin .8-.9: .85 twice, one right: gap |1.7 - 1|. Bin .6-.7: .65 once, right: gap |.65 - 1|.
    const rows = [row(0.85), row(0.85), row(0.65)]
    expect(calibrationError(rows, [0, 1, 0])).toBeCloseTo((0.7 + 0.35) / 3, 14)
    // Certain and right fills the last bin and costs nothing.
    expect(calibrationError([[0, -Infinity]], [0])).toBe(0)
  })

  it('the first of equal labels is predicted', ({ expect }) => {
    expect(
      predictLabels([
        [-1, -1, -2],
        [-2, -1, -1],
        [-Infinity, -Infinity, 0],
      ]),
    ).toEqual([0, 1, 2])
  })
})

describe('scores in general', () => {
  it('lie in 0..1, and are 1 exactly if every prediction is right', ({ expect }) => {
    fc.assert(
      fc.property(labels, (sample) => {
        const counted = confusionMatrix(sample.gold, sample.predicted, 4)
        const perfect = sample.gold.every((label, i) => label === sample.predicted[i])
        for (const score of [accuracy, balancedAccuracy, weightedF1]) {
          const value = score(counted)
          expect(value).toBeGreaterThanOrEqual(0)
          expect(value).toBeLessThanOrEqual(1 + 1e-12)
          expect(Math.abs(value - 1) < 1e-12).toBe(perfect)
        }
      }),
    )
  })

  it('do not depend on the order of examples or the names of classes', ({ expect }) => {
    fc.assert(
      fc.property(labels, (sample) => {
        const rename = (values: readonly number[]): number[] =>
          [...values].reverse().map((value) => (value + 1) % 4)
        const a = confusionMatrix(sample.gold, sample.predicted, 4)
        const b = confusionMatrix(rename(sample.gold), rename(sample.predicted), 4)
        for (const score of [accuracy, balancedAccuracy, weightedF1]) {
          expect(score(b)).toBeCloseTo(score(a), 12)
        }
      }),
    )
  })
})
