import fc from 'fast-check'
import { describe, test } from 'vitest'
import {
  BIAS_RIDGE,
  biasedMeanLogProb,
  fitLabelBias,
} from '../../../adapters/objective/label-bias.ts'
import { applyBias, meanLogProb } from '../../../adapters/objective/label-log-probs.ts'

/** Log probabilities of one row from its probabilities. */
const row = (...probabilities: number[]) => probabilities.map(Math.log)

const examples = fc.integer({ min: 2, max: 5 }).chain((numLabels) =>
  fc.array(
    fc.record({
      logits: fc.array(fc.double({ min: -6, max: 6, noNaN: true }), {
        minLength: numLabels,
        maxLength: numLabels,
      }),
      gold: fc.integer({ min: 0, max: numLabels - 1 }),
    }),
    { minLength: 1, maxLength: 20 },
  ),
)

describe('label bias', () => {
  test('cancels the preference of a model with constant answers, up to the labels’ shares', ({
    expect,
  }) => {
    const logProbs = Array.from({ length: 4 }, () => row(0.9, 0.1))
    const [first, second] = fitLabelBias(logProbs, [0, 1, 0, 1]) as [number, number]
    // Without the ridge the bias would be the whole −log 9; with it the slope is 0 a little before.
    const shift = second - first
    const p = 1 / (1 + Math.exp(-(Math.log(1 / 9) + shift)))
    expect(shift).toBeGreaterThan(1.9)
    expect(shift).toBeLessThan(Math.log(9))
    expect(0.5 - p).toBeCloseTo(2 * BIAS_RIDGE * second, 5)
  })

  test('is a maximum, and no worse than no bias', ({ expect }) => {
    fc.assert(
      fc.property(
        examples,
        fc.infiniteStream(fc.double({ min: -1, max: 1, noNaN: true })),
        (rows, noise) => {
          const logProbs = applyBias(
            rows.map(({ logits }) => logits),
            rows[0]!.logits.map(() => 0),
          )
          const gold = rows.map((example) => example.gold)
          const bias = fitLabelBias(logProbs, gold)
          const worth = (b: readonly number[]): number =>
            meanLogProb(applyBias(logProbs, b), gold) -
            BIAS_RIDGE * b.reduce((s, v) => s + v * v, 0)
          expect(biasedMeanLogProb(logProbs, gold)).toBeCloseTo(worth(bias), 12)
          expect(worth(bias)).toBeGreaterThanOrEqual(meanLogProb(logProbs, gold) - 1e-12)
          const nearby = bias.map((value) => value + 0.1 * (noise.next().value as number))
          expect(worth(nearby)).toBeLessThanOrEqual(worth(bias) + 1e-5)
        },
      ),
    )
  })

  test('stays finite if the labels are separable', ({ expect }) => {
    const bias = fitLabelBias([row(1 - 1e-9, 1e-9), row(1 - 1e-9, 1e-9)], [1, 1])
    expect(bias.every((value) => Math.abs(value) < 50)).toBe(true)
  })
})
