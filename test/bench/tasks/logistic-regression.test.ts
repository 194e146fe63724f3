import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { logisticRegression } from './logistic-regression.ts'

/** Minima are found to a slope of 1e-6. */
const CLOSE = 1e-5

describe('logisticRegression', () => {
  it('finds the minimum of two mirrored examples', ({ expect }) => {
    const c = 0.7
    // Weights ±w by symmetry: the slope of 2·ln(1 + e^-2w) + w²/c is zero where w = 2c / (1 + e^2w).
    let [low, high] = [0, 10]
    for (let i = 0; i < 100; i++) {
      const w = (low + high) / 2
      if (w < (2 * c) / (1 + Math.exp(2 * w))) low = w
      else high = w
    }
    const expected = 1 / (1 + Math.exp(-2 * low))
    const [row] = logisticRegression([[3], [5]], [0, 1], [[5]], { numLabels: 2, c })
    expect(Math.exp(row![1]!)).toBeCloseTo(expected, 5)
  })

  it('has weights made of the examples’ errors, with fewer examples than features', ({
    expect,
  }) => {
    const rng = createRng(7)
    const [n, size, numLabels, c] = [9, 40, 3, 0.1]
    const train = Array.from({ length: n }, () => Array.from({ length: size }, () => rng.normal()))
    const gold = train.map((_, i) => i % numLabels)
    const logProbs = logisticRegression(train, gold, train, { numLabels, c })
    // At the minimum W = c·Σ (1[gold] − P)·x: scores follow from the predictions themselves.
    const columns = Array.from({ length: size }, (_, k) => train.map((row) => row[k]!))
    const standard = columns.map((values) => {
      const mean = values.reduce((s, v) => s + v, 0) / n
      const deviation = Math.sqrt(values.reduce((s, v) => s + (v - mean) ** 2, 0) / n)
      return values.map((v) => (v - mean) / deviation)
    })
    const inner = (i: number, j: number) => standard.reduce((s, v) => s + v[i]! * v[j]!, 0)
    const score = (row: number, label: number) =>
      gold.reduce((sum, own, i) => {
        const off = (own === label ? 1 : 0) - Math.exp(logProbs[i]![label]!)
        return sum + c * off * inner(i, row)
      }, 0)
    const oddsOf = (row: number, label: number) => logProbs[row]![label]! - logProbs[row]![0]!
    for (let label = 1; label < numLabels; label++) {
      const intercepts = gold.map((_, i) => oddsOf(i, label) - (score(i, label) - score(i, 0)))
      expect(Math.max(...intercepts) - Math.min(...intercepts)).toBeLessThan(CLOSE * size)
      // The intercept is free, so labels are predicted as often as they are.
      const expectedCount = logProbs.reduce((sum, row) => sum + Math.exp(row[label]!), 0)
      expect(expectedCount).toBeCloseTo(n / numLabels, 4)
    }
  })

  it('ignores a feature that never varies', ({ expect }) => {
    const options = { numLabels: 2, c: 1 }
    const plain = logisticRegression([[0], [1], [2], [4]], [0, 0, 1, 1], [[1.5]], options)
    const wider = logisticRegression(
      [
        [0, 9],
        [1, 9],
        [2, 9],
        [4, 9],
      ],
      [0, 0, 1, 1],
      [[1.5, 9]],
      options,
    )
    expect(wider[0]![0]).toBeCloseTo(plain[0]![0]!, 5)
  })
})
