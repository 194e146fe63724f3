import { describe, test } from 'vitest'
import { startAdam, stepAdam } from '../../../../adapters/optimise/gradient/adam.ts'
import { countFolds, stratifiedFolds } from '../../../../adapters/optimise/gradient/folds.ts'
import {
  GradientSearch,
  type GradientAnswer,
  type GradientQuery,
  type GradientState,
} from '../../../../adapters/optimise/gradient/gradient.ts'
import {
  decodeGradientState,
  encodeGradientState,
} from '../../../../adapters/optimise/gradient/state.ts'

const GEOMETRY = { numLayers: 4, numHeads: 1, headDim: 4 }
const GOLD = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]

describe('Adam', () => {
  test('walks the learning rate against the sign first, whatever the gradient’s size', ({
    expect,
  }) => {
    const options = { learningRate: 0.1, decay: 0 }
    const { values } = stepAdam(startAdam(3), Float32Array.of(5, -1e-3, 0), 0, options)
    expect(values[0]).toBeCloseTo(-0.1, 5)
    expect(values[1]).toBeCloseTo(0.1, 5)
    expect(values[2]).toBe(0)
  })

  test('takes the second step that the paper’s formulas give', ({ expect }) => {
    const options = { learningRate: 0.1, decay: 0 }
    const first = stepAdam(startAdam(1), Float32Array.of(1), 0, options)
    const { values } = stepAdam(first, Float32Array.of(3), 1, options)
    const mean = (0.9 * 0.1 + 0.1 * 3) / (1 - 0.9 ** 2)
    const square = (0.999 * 0.001 + 0.001 * 9) / (1 - 0.999 ** 2)
    expect(values[0]).toBeCloseTo(-0.1 - (0.1 * mean) / Math.sqrt(square), 5)
  })

  test('decays toward zero beside the gradient, not through its moments', ({ expect }) => {
    const state = { ...startAdam(1), values: Float32Array.of(2) }
    const next = stepAdam(state, new Float32Array(1), 0, { learningRate: 0.1, decay: 0.5 })
    expect(next.values[0]).toBeCloseTo(2 * (1 - 0.05), 6)
    expect(next.mean[0]).toBe(0)
  })
})

describe('folds', () => {
  test('are five, fewer of few inputs, and three of many', ({ expect }) => {
    const distinct = (count: number) => Array.from({ length: count }, (_, i) => i)
    expect([3, 20, 128, 129, 2000].map((count) => countFolds(distinct(count)))).toEqual([
      3, 5, 5, 3, 3,
    ])
    // Inputs count, not their repetitions.
    expect(countFolds([...distinct(100), ...distinct(100)])).toBe(5)
    expect(countFolds(distinct(129), 2)).toBe(2)
  })

  test('hold each label about equally often and are of about one size', ({ expect }) => {
    const gold = Array.from({ length: 23 }, (_, i) => (i < 11 ? 0 : i < 18 ? 1 : 2))
    const folds = stratifiedFolds(gold, 5, 1)
    const countOf = (fold: number, label: number | null): number =>
      folds.filter((own, i) => own === fold && (label === null || gold[i] === label)).length
    for (const label of [null, 0, 1, 2]) {
      const counts = [0, 1, 2, 3, 4].map((fold) => countOf(fold, label))
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }
  })

  test('differ by seed and by nothing else', ({ expect }) => {
    expect(stratifiedFolds(GOLD, 5, 3)).toEqual(stratifiedFolds(GOLD, 5, 3))
    expect(stratifiedFolds(GOLD, 5, 3)).not.toEqual(stratifiedFolds(GOLD, 5, 4))
  })

  test('cannot be more than the examples', ({ expect }) => {
    expect(() => stratifiedFolds([0, 1], 3, 0)).toThrow(RangeError)
  })
})

/**
 * Examples that each pull the first angle to a place of their own: log P = −(angle − target)².
 */
const pull =
  (targets: readonly number[]) =>
  ({ numCandidates, values, weights }: GradientQuery): GradientAnswer => {
    const size = values.length / numCandidates
    const logProbs = new Float32Array(numCandidates * targets.length)
    const gradient = new Float32Array(values.length)
    for (let candidate = 0; candidate < numCandidates; candidate++) {
      for (const [example, target] of targets.entries()) {
        const at = candidate * targets.length + example
        const gap = values[candidate * size]! - target
        logProbs[at] = -(gap ** 2)
        gradient[candidate * size]! += weights[at]! * 2 * gap
      }
    }
    return { logProbs, gradient }
  }

function run(
  search: GradientSearch,
  answer: (query: GradientQuery) => GradientAnswer,
  keep: (state: GradientState) => GradientState = (state) => state,
): GradientState {
  let state = search.start()
  for (let query = search.ask(state); query !== null; query = search.ask(state)) {
    state = keep(search.tell(state, answer(query)))
  }
  return state
}

describe('the search', () => {
  const spec = { geometry: GEOMETRY, gold: GOLD, seed: 1 }
  const options = { learningRate: 0.05, numSteps: 40 }

  test('first measures the identity, once an example', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const query = search.ask(search.start())!
    expect(query.numCandidates).toBe(5)
    expect(query.layers).toEqual([0, 1, 2, 3])
    expect(query.values.every((value) => value === 0)).toBe(true)
    expect(query.skipsUnweighted).toBe(true)
    // Each candidate differentiates its own fold, for all of them.
    for (const [example, fold] of search.folds.entries()) {
      const own = [0, 1, 2, 3, 4].filter((k) => query.weights[k * GOLD.length + example] !== 0)
      expect(own).toEqual([fold])
    }
  })

  test('then fits a candidate to all folds but its own', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    const first = pull(targets)(search.ask(search.start())!)
    const state = search.tell(search.start(), first)
    const query = search.ask(state)!
    for (let fold = 0; fold < 5; fold++) {
      const weights = query.weights.subarray(fold * GOLD.length, (fold + 1) * GOLD.length)
      expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 6)
      expect([...weights.keys()].filter((i) => weights[i] === 0)).toEqual(
        GOLD.flatMap((_, i) => (search.folds[i] === fold ? [i] : [])),
      )
      // The moment of the first step is a tenth of the mean gradient over the other folds.
      const seen = targets.filter((_, i) => search.folds[i] !== fold)
      const slope = seen.reduce((sum, target) => sum - (2 * target) / seen.length, 0)
      expect(state.adam.mean[fold * 8]).toBeCloseTo(0.1 * slope, 6)
    }
  })

  test('finds what all examples agree on', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const state = run(search, pull(GOLD.map(() => 0.5)))
    const { layers } = search.best(state)
    expect(layers.get(0)!.angles[0]).toBeCloseTo(0.5, 1)
    expect([...layers.get(3)!.angles]).toEqual([0, 0])
  })

  test('keeps the step of the lowest held-out loss and stops when it is past', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, patience: 4 } })
    const held = [1, 0.8, 0.6, 0.5, 0.55, 0.6, 0.7, 0.9, 1.2]
    const skipped: boolean[] = []
    let numAsked = 0
    const seen: number[] = []
    const state = run(search, (query) => {
      const loss = held[numAsked++]!
      seen.push([0, 1, 2, 3, 4].reduce((sum, fold) => sum + query.values[fold * 8]! / 5, 0))
      skipped.push(query.skipsUnweighted)
      return {
        logProbs: new Float32Array(query.weights.length).fill(-loss),
        gradient: new Float32Array(query.values.length).fill(1),
      }
    })
    // Held-out examples are looked at every second step.
    const losses = state.history.map(({ heldOutLoss }) => heldOutLoss?.toFixed(2) ?? null)
    expect(losses).toEqual(['1.00', null, '0.60', null, '0.55', null, '0.70', null, '1.20'])
    // The first has no candidate of weight 0 that another does not stand for.
    expect(skipped.slice(1)).toEqual(losses.slice(1).map((loss) => loss === null))
    expect(state.bestStep).toBe(4)
    expect(search.best(state).layers.get(0)!.angles[0]).toBeCloseTo(seen[4]!, 6)
  })

  test('ends with the folds’ mean, as long as they are', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, numSteps: 8 } })
    // Two folds pull the first angle, two the second, and one both.
    const state = run(search, (query) => {
      const gradient = new Float32Array(query.values.length)
      for (let fold = 0; fold < 5; fold++) {
        if (fold % 2 === 0) gradient[fold * 8] = -1
        if (fold % 2 === 1 || fold === 0) gradient[fold * 8 + 1] = -1
      }
      const last = query.values.reduce((sum, value) => sum + value, 0)
      return { logProbs: new Float32Array(query.weights.length).fill(-1 / (1 + last)), gradient }
    })
    const folds = Array.from({ length: 5 }, (_, fold) => {
      const { values } = state.adam
      return [values[fold * 8]!, values[fold * 8 + 1]!]
    })
    expect(folds.some(([a, b]) => Math.abs(a! - b!) > 0.01)).toBe(true)
    const lengthOf = ([a, b]: readonly number[]): number => Math.hypot(a!, b!)
    const { angles } = search.best(state).layers.get(0)!
    const found = search.foldRotations(state).map(({ layers }) => layers.get(0)!.angles)
    const mean = found.reduce((sum, own) => sum + lengthOf([...own]), 0) / 5
    expect(state.foldBestSteps.every((step) => step === state.bestStep)).toBe(true)
    expect(lengthOf([...angles])).toBeCloseTo(mean, 5)
  })

  test('keeps the identity where no step helps held-out examples', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    let loss = 1
    const state = run(search, (query) => ({
      logProbs: new Float32Array(query.weights.length).fill(-(loss += 0.1)),
      gradient: new Float32Array(query.values.length).fill(1),
    }))
    expect(state.bestStep).toBe(0)
    const { layers } = search.best(state)
    expect([...layers.values()].every(({ angles }) => angles.every((v) => v === 0))).toBe(true)
  })

  test('rotates the layers of its window only, with scales where asked', ({ expect }) => {
    const search = new GradientSearch({
      ...spec,
      options: { ...options, numSteps: 3, layers: [1, 2], hasLogScale: true },
    })
    const state = run(search, (query) => ({
      logProbs: new Float32Array(query.weights.length).fill(-1 / (1 + query.values[0]! ** 2)),
      gradient: Float32Array.from(query.values, (_, i) => (i < query.values.length / 2 ? 1 : -1)),
    }))
    const { layers } = search.best(state)
    expect([...layers.keys()]).toEqual([1, 2])
    expect(layers.get(2)!.angles.every((angle) => angle < 0)).toBe(true)
    expect(layers.get(2)!.logScale!.every((scale) => scale > 0)).toBe(true)
  })

  test('takes the same steps from its bytes as without a break', ({ expect }) => {
    const targets = GOLD.map((label, i) => 0.3 + 0.1 * label + 0.02 * i)
    const search = new GradientSearch({ ...spec, options })
    const whole = run(search, pull(targets))
    const broken = run(search, pull(targets), (state) => {
      // At an odd offset, as storage may hand it out.
      const bytes = encodeGradientState(state)
      const shifted = new Uint8Array(bytes.length + 1)
      shifted.set(bytes, 1)
      const decoded = decodeGradientState(shifted.subarray(1))
      if (!decoded.ok) throw new Error(decoded.error.reason)
      return decoded.value
    })
    expect(broken).toEqual(whole)
  })

  test('looks at the last step whatever its number, and not at what was not asked for', ({
    expect,
  }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, numSteps: 5 } })
    const state = run(search, (query) => {
      const answer = pull(GOLD.map(() => 0.5))(query)
      if (!query.skipsUnweighted) return answer
      return {
        ...answer,
        logProbs: answer.logProbs.map((v, i) => (query.weights[i] === 0 ? NaN : v)),
      }
    })
    expect(state.history.map(({ heldOutLoss }) => heldOutLoss === null)).toEqual([
      ...[false, true, false, true, false],
      false,
    ])
    expect(state.history.every(({ trainLoss }) => Number.isFinite(trainLoss))).toBe(true)
    expect(state.bestStep).toBe(5)
  })

  test('refuses bytes of another version or length', ({ expect }) => {
    const bytes = encodeGradientState(new GradientSearch(spec).start())
    expect(decodeGradientState(bytes.subarray(0, -4))).toMatchObject({ ok: false })
    expect(decodeGradientState(new Uint8Array(3))).toMatchObject({ ok: false })
    const other = bytes.slice()
    other[0] = 99
    expect(decodeGradientState(other)).toEqual({ ok: false, error: { reason: 'version' } })
  })

  test('refuses answers that are not numbers, and options that make no sense', ({ expect }) => {
    const search = new GradientSearch(spec)
    const query = search.ask(search.start())!
    const answer = {
      logProbs: new Float32Array(query.weights.length),
      gradient: new Float32Array(query.values.length).fill(NaN),
    }
    expect(() => search.tell(search.start(), answer)).toThrow(RangeError)
    for (const bad of [
      { learningRate: 0 },
      { numSteps: 0 },
      { layers: [2, 9] as const },
      { layers: [3, 1] as const },
      { decay: -1 },
    ]) {
      expect(() => new GradientSearch({ ...spec, options: bad })).toThrow(RangeError)
    }
    expect(() => new GradientSearch({ ...spec, gold: [0] })).toThrow(RangeError)
  })
})

describe('what the folds found', () => {
  const spec = { geometry: GEOMETRY, gold: GOLD, seed: 1 }
  const options = { learningRate: 0.05, numSteps: 40, patience: 40 }
  const firstAngle = (search: GradientSearch, state: GradientState) =>
    search.foldRotations(state).map(({ layers }) => layers.get(0)!.angles[0]!)

  test('is each fold’s candidate after the steps that the other folds choose', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    // Each candidate's first angle after every step, and each fold's loss.
    const angles: number[][] = []
    const state = run(search, (query) => {
      const size = query.values.length / query.numCandidates
      angles.push(search.foldRotations(search.start()).map((_, k) => query.values[k * size]!))
      return pull(targets)(query)
    })
    for (const [fold, step] of state.foldBestSteps.entries()) {
      const others = state.history.map(({ heldOutLoss, foldLosses }) =>
        heldOutLoss === null
          ? Infinity
          : foldLosses.reduce((sum, loss, other) => (other === fold ? sum : sum + loss), 0),
      )
      expect(step).toBe(others.indexOf(Math.min(...others)))
      expect(firstAngle(search, state)[fold]).toBe(angles[step]![fold])
    }
    expect(new Set(state.foldBestSteps).size).toBeGreaterThan(1)
  })

  test('does not depend on the loss of the fold itself', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    const fold = 2
    const spoilt = (query: GradientQuery): GradientAnswer => {
      const answer = pull(targets)(query)
      const logProbs = answer.logProbs.slice()
      search.folds.forEach((own, example) => {
        // Its held-out loss alone: worse with every step.
        if (own === fold) {
          logProbs[fold * GOLD.length + example]! -= 9 * query.values[0]! ** 2
        }
      })
      return { ...answer, logProbs }
    }
    const [honest, other] = [run(search, pull(targets)), run(search, spoilt)]
    expect(firstAngle(search, other)[fold]).toBe(firstAngle(search, honest)[fold])
    expect(other.foldBestSteps[fold]).toBe(honest.foldBestSteps[fold])
    expect(other.foldBestSteps).not.toEqual(honest.foldBestSteps)
  })

  test('keeps examples of one group in one fold, and makes no more folds than groups', ({
    expect,
  }) => {
    const groups = [0, 0, 2, 3, 2, 0, 3, 0, 2, 2]
    const search = new GradientSearch({ ...spec, groups, options })
    expect(search.numCandidates).toBe(3)
    groups.forEach((group, i) => {
      expect(search.folds[i]).toBe(search.folds[groups.indexOf(group)])
    })
    expect(new Set(search.folds).size).toBe(3)
  })
})
