import { describe, it } from 'vitest'
import { predictOutOfFold } from '../../../adapters/guard/out-of-fold.ts'
import {
  examplesToSettle,
  GUARD_LEVEL,
  judge,
  leavesDoubt,
  type Reference,
  type Verdict,
} from '../../../adapters/guard/verdict.ts'
import { FURTHER_PARTITIONS, testPartitions } from '../../../adapters/guard/repeats.ts'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { stratifiedFolds } from '../../../adapters/optimise/gradient/folds.ts'
import { createRng, type Rng } from '../../../adapters/optimise/rng.ts'

const NUM_FOLDS = 5

/** Log probabilities of two labels under a base model and an adapter, for each example. */
type World = {
  /** Pull of the base model, and of the adapter, towards the right label. */
  readonly baseSignal: number
  readonly adapterSignal: number
  /** The base model's bias towards a label. */
  readonly bias: number
  readonly numExamples: number
}

function scoresOf(signal: number, bias: number, gold: readonly number[], rng: Rng): LabelLogProbs {
  const logits = gold.map((label) => {
    const towards = signal * (label === 0 ? 1 : -1)
    return [towards + bias + rng.normal(), 0]
  })
  return applyBias(logits, [0, 0])
}

function judged({ baseSignal, adapterSignal, bias, numExamples }: World, seed: number): Verdict {
  const rng = createRng(77, seed)
  const gold = Array.from({ length: numExamples }, (_, i) => i % 2)
  const folds = stratifiedFolds(gold, NUM_FOLDS, seed)
  const base = scoresOf(baseSignal, bias, gold, rng)
  const candidates = Array.from({ length: NUM_FOLDS }, () =>
    scoresOf(adapterSignal, bias, gold, rng),
  )
  const predictions = predictOutOfFold({ gold, folds, base, candidates })
  return judge(predictions, gold, { folds, groups: gold.map((_, i) => i), hasAdapter: true })
}

const many = (world: World, numJobs: number): Verdict[] =>
  Array.from({ length: numJobs }, (_, seed) => judged(world, seed))
const shareOf = (verdicts: readonly Verdict[], is: (verdict: Verdict) => boolean) =>
  verdicts.filter(is).length / verdicts.length

describe('out-of-fold predictions', () => {
  const gold = [0, 1, 0, 1, 0, 1]
  const folds = [0, 0, 1, 1, 2, 2]
  const sure = (label: number): number[] =>
    label === 0 ? [Math.log(0.9), Math.log(0.1)] : [Math.log(0.1), Math.log(0.9)]
  const base = gold.map(() => [Math.log(0.8), Math.log(0.2)])

  it('use for each example the candidate that was fitted without it', ({ expect }) => {
    // Each candidate is right only on its own fold.
    const candidates = [0, 1, 2].map((fold) =>
      gold.map((label, i) => sure(folds[i] === fold ? label : 1 - label)),
    )
    const { adapter } = predictOutOfFold({ gold, folds, base, candidates })
    adapter.forEach((row, i) => {
      expect(row[gold[i]!]!).toBeGreaterThan(row[1 - gold[i]!]!)
    })
  })

  it('do not depend on the labels of their own fold', ({ expect }) => {
    const candidates = [0, 1, 2].map(() => gold.map(sure))
    const other = gold.map((label, i) => (folds[i] === 1 ? 1 - label : label))
    const [one, two] = [gold, other].map((labels) =>
      predictOutOfFold({ gold: labels, folds, base, candidates }),
    )
    for (const example of [2, 3]) {
      expect(two!.biasOnly[example]).toEqual(one!.biasOnly[example])
      expect(two!.calibratedBase[example]).toEqual(one!.calibratedBase[example])
      expect(two!.adapter[example]).toEqual(one!.adapter[example])
    }
    expect(two!.adapter[0]).not.toEqual(one!.adapter[0])
  })

  it('need two folds and equal lengths', ({ expect }) => {
    expect(() => predictOutOfFold({ gold, folds, base, candidates: [base] })).toThrow(RangeError)
    expect(() => predictOutOfFold({ gold, folds: [0], base, candidates: [base, base] })).toThrow(
      RangeError,
    )
  })
})

describe('the guard', () => {
  it('proves an adapter that knows labels unknown to the base model', ({ expect }) => {
    const verdicts = many({ baseSignal: 0, adapterSignal: 3, bias: 2, numExamples: 20 }, 40)
    expect(shareOf(verdicts, ({ outcome }) => outcome === 'proven')).toBeGreaterThan(0.9)
    for (const { outcome, answer, adapter } of verdicts) {
      if (outcome !== 'proven') continue
      expect(answer).toBe('adapter')
      expect(adapter.pValue).toBeLessThanOrEqual(GUARD_LEVEL)
      expect(adapter.gain).toBeGreaterThan(0)
      expect(adapter.gains.bias_only).toBeGreaterThanOrEqual(0)
    }
  })

  it('publishes the better of an adapter and a label bias alone', ({ expect }) => {
    const outcomes = (baseSignal: number, adapterSignal: number) =>
      many({ baseSignal, adapterSignal, bias: 5, numExamples: 20 }, 50)
    const isOf = (outcome: Verdict['outcome']) => (verdict: Verdict) => verdict.outcome === outcome
    // Without its bias, the base model knows more than the adapter.
    expect(shareOf(outcomes(3, 1), isOf('bias_only'))).toBeGreaterThan(0.9)
    expect(shareOf(outcomes(1, 4), isOf('proven'))).toBeGreaterThan(0.9)
    // If both do equally well, one of them goes live.
    const alike = outcomes(3, 3)
    const isLive = (verdict: Verdict) => isOf('proven')(verdict) || isOf('bias_only')(verdict)
    expect(shareOf(alike, isLive)).toBeGreaterThan(0.95)
    // The one that is worse out of fold never does.
    for (const { outcome, adapter } of alike) {
      if (outcome === 'proven') expect(adapter.gains.bias_only).toBeGreaterThanOrEqual(0)
      if (outcome === 'bias_only') expect(adapter.gains.bias_only).toBeLessThanOrEqual(0)
    }
  })

  it('makes nothing live for labels that are unrelated to their inputs', ({ expect }) => {
    for (const [numExamples, numJobs] of [
      [20, 200],
      [64, 40],
    ] as const) {
      const world = { baseSignal: 0, adapterSignal: 0, bias: 4, numExamples }
      const verdicts = many(world, numJobs)
      const live = shareOf(
        verdicts,
        ({ outcome }) => outcome === 'proven' || outcome === 'bias_only',
      )
      expect(live).toBeLessThanOrEqual(GUARD_LEVEL)
    }
  })

  it('never makes an answer live that is no better than the base model', ({ expect }) => {
    // The base model knows the labels as well as the adapter and the bias do.
    const verdicts = many({ baseSignal: 2, adapterSignal: 2, bias: 0, numExamples: 20 }, 60)
    for (const { outcome, adapter, biasOnly } of verdicts) {
      if (outcome === 'proven') expect(adapter.gain).toBeGreaterThan(0)
      if (outcome === 'bias_only') expect(biasOnly.gain).toBeGreaterThan(0)
    }
    expect(shareOf(verdicts, ({ outcome }) => outcome === 'no_gain')).toBeGreaterThan(0.1)
  })

  it('calls an unproven gain promising, and estimates how many examples are missing', ({
    expect,
  }) => {
    const world = { baseSignal: 0, adapterSignal: 0.5, bias: 0, numExamples: 20 }
    const unclear = many(world, 100).filter(({ outcome }) => outcome === 'promising')
    expect(unclear.length).toBeGreaterThan(10)
    for (const { answer, adapter, biasOnly, numExamples } of unclear) {
      const judgedAnswer = answer === 'adapter' ? adapter : biasOnly
      expect(judgedAnswer.gain).toBeGreaterThan(0)
      expect(judgedAnswer.pValue).toBeGreaterThan(GUARD_LEVEL)
      const more = examplesToSettle(judgedAnswer, numExamples)
      if (judgedAnswer.z >= 0.25) expect(more).toBeGreaterThan(0)
      else expect(more).toBeNull()
    }
  })

  it('calls a gain promising however little shows that the labels were learnt', ({ expect }) => {
    const world = { baseSignal: 0, adapterSignal: 0, bias: 2, numExamples: 20 }
    const verdicts = many(world, 100)
    const promising = verdicts.filter(({ outcome }) => outcome === 'promising')
    expect(promising.some(({ adapter }) => adapter.pValue > 0.5)).toBe(true)
    for (const { outcome, adapter, biasOnly } of verdicts) {
      if (outcome !== 'no_gain') continue
      expect(adapter.gains.bias_only! > 0 ? adapter.gain : biasOnly.gain).toBeLessThanOrEqual(0)
    }
  })

  it('asks for four times the examples if z is half of the settling z', ({ expect }) => {
    const half = { pValue: 0.1, z: 2.487 / 2, gain: 0.1, interval: null, gains: {} }
    expect(examplesToSettle(half, 20)).toBe(60)
    expect(examplesToSettle({ ...half, z: 0.1 }, 20)).toBeNull()
  })

  it('judges few rows, a class with one row, and a class with one row in twenty', ({ expect }) => {
    const cases: readonly (readonly number[])[] = [
      [0, 1, 0, 1, 0, 1, 0],
      [0, 0, 0, 0, 0, 0, 0, 1],
      Array.from({ length: 200 }, (_, i) => Number(i % 20 === 0)),
      Array.from({ length: 18 }, (_, i) => i % 6),
    ]
    for (const [index, gold] of cases.entries()) {
      const numLabels = Math.max(...gold) + 1
      const rng = createRng(9, index)
      const scores = (signal: number): LabelLogProbs =>
        applyBias(
          gold.map((label) =>
            Array.from({ length: numLabels }, (_, k) => (k === label ? signal : 0) + rng.normal()),
          ),
          new Array<number>(numLabels).fill(0),
        )
      const numFolds = Math.min(NUM_FOLDS, gold.length)
      const folds = stratifiedFolds(gold, numFolds, index)
      const candidates = Array.from({ length: numFolds }, () => scores(5))
      const predictions = predictOutOfFold({ gold, folds, base: scores(0), candidates })
      const groups = gold.map((_, i) => i)
      const verdict = judge(predictions, gold, { folds, groups, hasAdapter: true })
      expect(verdict.adapter.gain).toBeGreaterThan(0)
      expect(['proven', 'promising']).toContain(verdict.outcome)
      // 200 rows with 10 of the rare class are enough, and so are 18 rows of six classes.
      if (index >= 2) expect(verdict.outcome).toBe('proven')
    }
  })

  it('never publishes an adapter that the search did not find', ({ expect }) => {
    const gold = Array.from({ length: 20 }, (_, i) => i % 2)
    const folds = stratifiedFolds(gold, NUM_FOLDS, 1)
    const base = scoresOf(0, 2, gold, createRng(1, 1))
    const candidates = folds.slice(0, NUM_FOLDS).map(() => scoresOf(4, 0, gold, createRng(2, 2)))
    const predictions = predictOutOfFold({ gold, folds, base, candidates })
    const options = { folds, groups: gold.map((_, i) => i) }
    expect(judge(predictions, gold, { ...options, hasAdapter: true }).answer).toBe('adapter')
    expect(judge(predictions, gold, { ...options, hasAdapter: false }).answer).not.toBe('adapter')
  })

  it('counts examples with the same input once', ({ expect }) => {
    const rng = createRng(3, 3)
    const gold = Array.from({ length: 20 }, (_, i) => i % 2)
    const copies = [...gold, ...gold, ...gold]
    const groups = copies.map((_, i) => i % gold.length)
    const folds = stratifiedFolds(copies, NUM_FOLDS, 1, groups)
    groups.forEach((group, i) => {
      expect(folds[i]).toBe(folds[group])
    })
    const once = scoresOf(1, 0, gold, rng)
    const base = scoresOf(0, 0, gold, rng)
    const thrice = (rows: LabelLogProbs) => [...rows, ...rows, ...rows]
    const scores = {
      gold: copies,
      folds,
      base: thrice(base),
      candidates: Array.from({ length: NUM_FOLDS }, () => thrice(once)),
    }
    const predictions = predictOutOfFold(scores)
    const asOne = judge(predictions, copies, { folds, groups, hasAdapter: true })
    const asMany = judge(predictions, copies, {
      folds,
      groups: copies.map((_, i) => i),
      hasAdapter: true,
    })
    for (const [reference, gain] of Object.entries(asOne.adapter.gains)) {
      expect(gain).toBeCloseTo(asMany.adapter.gains[reference as Reference]!, 12)
    }
    expect(asOne.adapter.pValue).toBeGreaterThan(asMany.adapter.pValue)
    expect(asOne.numExamples).toBe(20)
  })
})

describe('a verdict by several partitions', () => {
  const numExamples = 20
  const gold = Array.from({ length: numExamples }, (_, i) => i % 2)
  const groups = gold.map((_, i) => i)

  /** One partition's predictions of an adapter that pulls towards the right label. */
  function partitionOf(signal: number, seed: number, numFolds = NUM_FOLDS) {
    const rng = createRng(78, seed)
    const folds = stratifiedFolds(gold, numFolds, seed)
    const base = scoresOf(0, 0, gold, rng)
    const candidates = Array.from({ length: numFolds }, () => scoresOf(signal, 0, gold, rng))
    return { folds, predictions: predictOutOfFold({ gold, folds, base, candidates }) }
  }
  function bothVerdicts(signal: number, seed: number): [Verdict, Verdict] {
    const first = partitionOf(signal, seed)
    const repeats = FURTHER_PARTITIONS.map(({ seedOffset, numFolds }) => {
      const { folds, predictions } = partitionOf(signal, seed + seedOffset, numFolds)
      return { folds, predictions: predictions.adapter }
    })
    const options = { folds: first.folds, groups, hasAdapter: true }
    return [
      judge(first.predictions, gold, options),
      judge(first.predictions, gold, { ...options, repeats }),
    ]
  }

  it('has more power than by one, and the figures of the first', ({ expect }) => {
    const pairs = Array.from({ length: 60 }, (_, seed) => bothVerdicts(0.35, seed))
    const numProven = (which: 0 | 1) =>
      pairs.filter((pair) => pair[which].outcome === 'proven').length
    expect(numProven(1)).toBeGreaterThan(numProven(0))
    for (const [one, three] of pairs) {
      expect([one.numPartitions, three.numPartitions]).toEqual([1, 3])
      expect(three.adapter.gains).toEqual(one.adapter.gains)
      expect(three.biasOnly).toEqual(one.biasOnly)
      expect(leavesDoubt(three)).toBe(false)
      if (leavesDoubt(one)) {
        expect(one.answer).toBe('adapter')
        expect(one.adapter.pValue).toBeGreaterThan(0.01)
        expect(one.adapter.pValue).toBeLessThanOrEqual(0.5)
      }
    }
  })

  it('counts an input that recurs once', ({ expect }) => {
    const { folds, predictions } = partitionOf(0.35, 3)
    const doubled = {
      gold: [...gold, gold[0]!],
      folds: [...folds, folds[0]!],
      rows: [...predictions.adapter, predictions.adapter[0]!],
    }
    const test = testPartitions([{ folds, predictions: predictions.adapter }], gold)
    const own = judge(
      {
        ...predictions,
        base: [...predictions.base, predictions.base[0]!],
        calibratedBase: [...predictions.calibratedBase, predictions.calibratedBase[0]!],
        biasOnly: [...predictions.biasOnly, predictions.biasOnly[0]!],
        adapter: doubled.rows,
      },
      doubled.gold,
      {
        folds: doubled.folds,
        groups: [...groups, 0],
        hasAdapter: true,
        repeats: [{ folds: doubled.folds, predictions: doubled.rows }],
      },
    )
    // The mean of two equal partitions is one of them.
    expect(own.adapter.pValue).toBe(test.pValue)
    expect(own.numExamples).toBe(numExamples)
  })

  it('refuses partitions of other examples', ({ expect }) => {
    const { folds, predictions } = partitionOf(1, 0)
    expect(() =>
      testPartitions([{ folds: folds.slice(1), predictions: predictions.adapter }], gold),
    ).toThrow(RangeError)
  })
})
