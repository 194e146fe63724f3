import { describe, it } from 'vitest'
import { predictOutOfFold } from '../../../adapters/guard/out-of-fold.ts'
import {
  GUARD_LEVEL,
  judge,
  type Reference,
  type Verdict,
} from '../../../adapters/guard/verdict.ts'
import type { LabelLogProbs } from '../../../adapters/objective/label-log-probs.ts'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { stratifiedFolds } from '../../../adapters/optimise/gradient/folds.ts'
import { createRng, type Rng } from '../../../adapters/optimise/rng.ts'

const NUM_FOLDS = 5

/** A world of two labels: what the base model and an adapter say of each example. */
type World = {
  /** Pull of the base model, and of the adapter, towards the right label. */
  readonly baseSignal: number
  readonly adapterSignal: number
  /** What the base model prefers whatever it reads. */
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
  return judge(predictions, gold, { groups: gold.map((_, i) => i), hasAdapter: true })
}

const many = (world: World, numJobs: number): Verdict[] =>
  Array.from({ length: numJobs }, (_, seed) => judged(world, seed))
const shareOf = (verdicts: readonly Verdict[], is: (verdict: Verdict) => boolean) =>
  verdicts.filter(is).length / verdicts.length

describe('predictions out of fold', () => {
  const gold = [0, 1, 0, 1, 0, 1]
  const folds = [0, 0, 1, 1, 2, 2]
  const sure = (label: number): number[] =>
    label === 0 ? [Math.log(0.9), Math.log(0.1)] : [Math.log(0.1), Math.log(0.9)]
  const base = gold.map(() => [Math.log(0.8), Math.log(0.2)])

  it('take each example from the candidate that was fitted without it', ({ expect }) => {
    // Each candidate is right on its own fold alone.
    const candidates = [0, 1, 2].map((fold) =>
      gold.map((label, i) => sure(folds[i] === fold ? label : 1 - label)),
    )
    const { adapter } = predictOutOfFold({ gold, folds, base, candidates })
    adapter.forEach((row, i) => {
      expect(row[gold[i]!]!).toBeGreaterThan(row[1 - gold[i]!]!)
    })
  })

  it('do not change with the labels of their own fold', ({ expect }) => {
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

  it('need two folds and lengths that agree', ({ expect }) => {
    expect(() => predictOutOfFold({ gold, folds, base, candidates: [base] })).toThrow(RangeError)
    expect(() => predictOutOfFold({ gold, folds: [0], base, candidates: [base, base] })).toThrow(
      RangeError,
    )
  })
})

describe('the guard', () => {
  it('publishes an adapter that knows what the base model does not', ({ expect }) => {
    const world = { baseSignal: 0, adapterSignal: 3, bias: 2, numExamples: 20 }
    const verdicts = many(world, 40)
    expect(
      shareOf(verdicts, ({ answer, outcome }) => answer === 'adapter' && outcome === 'published'),
    ).toBeGreaterThan(0.9)
    // It has to beat every reference, and what is reported is the hardest.
    for (const { adapter } of verdicts) expect(adapter.pValue).toBeLessThanOrEqual(0.05)
  })

  it('publishes the better of an adapter and a label bias alone', ({ expect }) => {
    const answers = (baseSignal: number, adapterSignal: number) =>
      many({ baseSignal, adapterSignal, bias: 5, numExamples: 20 }, 100)
    const isAdapter = ({ answer, outcome }: Verdict) =>
      answer === 'adapter' && outcome === 'published'
    const isBias = ({ answer, outcome }: Verdict) =>
      answer === 'bias_only' && outcome === 'published'
    // The adapter knows less than the base model does once its bias is taken out.
    expect(shareOf(answers(3, 1), isBias)).toBeGreaterThan(0.95)
    expect(shareOf(answers(1, 4), isAdapter)).toBeGreaterThan(0.95)
    // Where both do as well, either is published, and one of them always.
    const alike = answers(3, 3)
    expect(shareOf(alike, (verdict) => isAdapter(verdict) || isBias(verdict))).toBeGreaterThan(0.95)
    for (const { adapter, biasOnly, answer } of alike) {
      const isBetter = adapter.gains.bias_only! > 0
      if (answer === 'adapter') expect(isBetter).toBe(true)
      // A better adapter gives way only where its own test does not hold, or calibration does better.
      else if (isBetter && adapter.gains.calibrated_base! > 0) {
        expect(adapter.pValue).toBeGreaterThan(biasOnly.pValue)
      }
    }
  })

  it('publishes nothing of labels that have nothing to do with their inputs', ({ expect }) => {
    for (const [numExamples, numJobs] of [
      [20, 400],
      [64, 60],
    ] as const) {
      const world = { baseSignal: 0, adapterSignal: 0, bias: 4, numExamples }
      const verdicts = many(world, numJobs)
      const published = shareOf(verdicts, ({ outcome }) => outcome === 'published')
      expect(published).toBeLessThanOrEqual(GUARD_LEVEL)
    }
  })

  it('asks an adapter to do better than calibration, though not by the test', ({ expect }) => {
    // What the base model says is right once its bias is out; the adapter adds nothing to that.
    const verdicts = many({ baseSignal: 3, adapterSignal: 0.5, bias: 6, numExamples: 20 }, 60)
    const adapters = verdicts.filter(({ answer }) => answer === 'adapter')
    for (const { adapter } of adapters) expect(adapter.gains.calibrated_base).toBeGreaterThan(0)
    expect(adapters.length).toBeLessThan(5)
  })

  it('says how much it could have seen where it saw too little', ({ expect }) => {
    const world = { baseSignal: 0, adapterSignal: 0.9, bias: 0, numExamples: 20 }
    const unclear = many(world, 100).filter(({ outcome }) => outcome === 'inconclusive')
    expect(unclear.length).toBeGreaterThan(10)
    for (const { answer, adapter, biasOnly } of unclear) {
      const { gain, pValue, smallestDetectableGain } = answer === 'adapter' ? adapter : biasOnly
      expect(gain).toBeGreaterThan(0)
      expect(pValue).toBeGreaterThan(GUARD_LEVEL / 2)
      expect(smallestDetectableGain).toBeGreaterThan(0)
    }
  })

  it('never publishes an adapter that the search did not find', ({ expect }) => {
    const gold = Array.from({ length: 20 }, (_, i) => i % 2)
    const folds = stratifiedFolds(gold, NUM_FOLDS, 1)
    const base = scoresOf(0, 2, gold, createRng(1, 1))
    const candidates = folds.slice(0, NUM_FOLDS).map(() => scoresOf(4, 0, gold, createRng(2, 2)))
    const predictions = predictOutOfFold({ gold, folds, base, candidates })
    const groups = gold.map((_, i) => i)
    expect(judge(predictions, gold, { groups, hasAdapter: true }).answer).toBe('adapter')
    expect(judge(predictions, gold, { groups, hasAdapter: false }).answer).not.toBe('adapter')
  })

  it('counts examples of one input as one', ({ expect }) => {
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
    const asOne = judge(predictions, copies, { groups, hasAdapter: true })
    const asMany = judge(predictions, copies, {
      groups: copies.map((_, i) => i),
      hasAdapter: true,
    })
    for (const [reference, gain] of Object.entries(asOne.adapter.gains)) {
      expect(gain).toBeCloseTo(asMany.adapter.gains[reference as Reference]!, 12)
    }
    expect(asOne.adapter.pValue).toBeGreaterThan(asMany.adapter.pValue)
  })
})
