import { describe, it } from 'vitest'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { stratifiedFolds } from '../../../adapters/optimise/gradient/folds.ts'
import { createRng, permutation, type Rng } from '../../../adapters/optimise/rng.ts'
import { learntTest, NUM_PERMUTATIONS } from '../../../adapters/statistics/learnt-test.ts'

const sure = (label: number, numLabels: number): number[] =>
  applyBias(
    [Array.from({ length: numLabels }, (_, k) => (k === label ? 3 : 0))],
    new Array<number>(numLabels).fill(0),
  )[0]!
const balanced = (numExamples: number, numLabels: number): number[] =>
  Array.from({ length: numExamples }, (_, i) => i % numLabels)

/**
 * Out-of-fold predictions by the nearest mean of the other folds' inputs. It is a very simple
 * learner, and each example teaches the others, which is what the test must allow for.
 */
function learn(gold: readonly number[], signal: number, rng: Rng, numFolds = 5) {
  const numLabels = Math.max(...gold) + 1
  const numDims = 20
  const centers = Array.from({ length: numLabels }, () => {
    const center = Array.from({ length: numDims }, () => rng.normal())
    const length = Math.hypot(...center)
    return center.map((value) => value / length)
  })
  const inputs = gold.map((label) => centers[label]!.map((value) => signal * value + rng.normal()))
  const folds = stratifiedFolds(gold, numFolds, Math.floor(1e6 * rng.uniform()))
  const predictions = inputs.map((input, i) => {
    const logits = centers.map((_, label) => {
      const members = gold.flatMap((other, j) =>
        other === label && folds[j] !== folds[i] ? [j] : [],
      )
      const mean = input.map(
        (_, d) => members.reduce((sum, j) => sum + inputs[j]![d]!, 0) / Math.max(1, members.length),
      )
      const distance = input.reduce((sum, value, d) => sum + (value - mean[d]!) ** 2, 0)
      // Like a fitted bias: a label with fewer examples in the other folds is less likely.
      return -distance / 4 + Math.log((members.length + 0.3) / gold.length)
    })
    return applyBias(
      [logits],
      logits.map(() => 0),
    )[0]!
  })
  return { predictions, folds }
}

const shuffled = (gold: readonly number[], rng: Rng): number[] =>
  permutation(gold.length, rng).map((i) => gold[i]!)

describe('the test of learnt labels', () => {
  it('passes predictions that are always right, and not constant ones', ({ expect }) => {
    const gold = balanced(20, 2)
    const folds = stratifiedFolds(gold, 5, 1)
    const right = learntTest(
      gold.map((label) => sure(label, 2)),
      gold,
      folds,
    )
    // Widened by the root of 2: of 6^5 orders within folds only the one seen, and none of the drawn.
    expect(right.pValue).toBeLessThan(0.01)
    expect(right.z).toBeGreaterThan(2.5)
    const constant = learntTest(
      gold.map(() => sure(0, 2)),
      gold,
      folds,
    )
    expect(constant).toEqual({ pValue: 1, z: 0 })
    const wrong = learntTest(
      gold.map((label) => sure(1 - label, 2)),
      gold,
      folds,
    )
    expect(wrong.pValue).toBeGreaterThan(0.99)
    expect(wrong.z).toBeCloseTo(-right.z, 1)
  })

  it('matches the exact null distribution of one fold with two labels', ({ expect }) => {
    // One fold of 16, so each order of the labels is as likely. The number of right answers is twice a
    // hypergeometric count of variance 8·8·8·8 / (16²·15), so it has mean 8 and variance 64 / 15.
    const gold = balanced(16, 2)
    const answers = gold.map((label, i) => (i < 2 ? 1 - label : label))
    const { z } = learntTest(
      answers.map((label) => sure(label, 2)),
      gold,
      gold.map(() => 0),
    )
    const exact = (14 - 8) / (Math.SQRT2 * Math.sqrt(64 / 15))
    // 1,999 draws know a standard deviation to 1.6%: four times that.
    expect(Math.abs(z / exact - 1)).toBeLessThan(4 * 0.016)
  })

  it('does not let two very sure mistakes outweigh fifteen right answers', ({ expect }) => {
    const gold = balanced(20, 2)
    const folds = stratifiedFolds(gold, 5, 1)
    const predictions = gold.map((label, i) =>
      i < 2 ? applyBias([label === 0 ? [-40, 0] : [0, -40]], [0, 0])[0]! : sure(label, 2),
    )
    expect(learntTest(predictions, gold, folds).pValue).toBeLessThan(0.05)
  })

  it('does not depend on a bias, and gives the same result again', ({ expect }) => {
    const gold = balanced(20, 4)
    const { predictions, folds } = learn(gold, 1.5, createRng(3, 1))
    const one = learntTest(predictions, gold, folds)
    const other = learntTest(applyBias(predictions, [0.4, -0.1, 0, 0.2]), gold, folds)
    expect(other.z).toBeCloseTo(one.z, 9)
    expect(learntTest(predictions, gold, folds)).toEqual(one)
  })

  it.for([
    [20, 2],
    [18, 6],
    [20, 10],
    [7, 2],
    [40, 4],
  ] as const)(
    'passes at most one in twenty learners of unrelated labels: %i examples, %i labels',
    ([numExamples, numLabels], { expect }) => {
      const numJobs = 100
      const rng = createRng(5, numExamples, numLabels)
      let numPassed = 0
      for (let job = 0; job < numJobs; job++) {
        const gold = shuffled(balanced(numExamples, numLabels), rng)
        const { predictions, folds } = learn(gold, 0, rng)
        if (learntTest(predictions, gold, folds).pValue <= 0.05) numPassed += 1
      }
      // 5% of 100 and three standard deviations of that count.
      expect(numPassed).toBeLessThanOrEqual(5 + 3 * Math.sqrt(100 * 0.05 * 0.95))
    },
  )

  it.for([
    [20, 2, 2.4],
    [18, 6, 3.2],
  ] as const)(
    'finds what is mostly right: %i examples, %i labels',
    ([numExamples, numLabels, signal], { expect }) => {
      const rng = createRng(6, numExamples, numLabels)
      let numPassed = 0
      for (let job = 0; job < 40; job++) {
        const gold = shuffled(balanced(numExamples, numLabels), rng)
        const { predictions, folds } = learn(gold, signal, rng)
        if (learntTest(predictions, gold, folds).pValue <= 0.05) numPassed += 1
      }
      expect(numPassed).toBeGreaterThanOrEqual(34)
    },
  )

  it('refuses lengths that differ', ({ expect }) => {
    expect(() => learntTest([], [], [])).toThrow(RangeError)
    expect(() => learntTest([sure(0, 2)], [0, 1], [0, 0])).toThrow(RangeError)
    expect(NUM_PERMUTATIONS).toBeGreaterThan(1_000)
  })
})
