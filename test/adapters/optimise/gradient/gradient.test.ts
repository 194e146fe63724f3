import { describe, test } from 'vitest'
import { startAdam, stepAdam } from '../../../../adapters/optimise/gradient/adam.ts'
import {
  countFolds,
  stratifiedBatches,
  stratifiedFolds,
} from '../../../../adapters/optimise/gradient/folds.ts'
import {
  GradientSearch,
  hasDiverged,
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
  test('takes a first step of the learning rate, whatever the gradient’s size', ({ expect }) => {
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

  test('applies decay to the values and not to the moments', ({ expect }) => {
    const state = { ...startAdam(1), values: Float32Array.of(2) }
    const next = stepAdam(state, new Float32Array(1), 0, { learningRate: 0.1, decay: 0.5 })
    expect(next.values[0]).toBeCloseTo(2 * (1 - 0.05), 6)
    expect(next.mean[0]).toBe(0)
  })
})

describe('folds', () => {
  test('are five, fewer with few inputs, and three with many', ({ expect }) => {
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

  test('depend only on the seed', ({ expect }) => {
    expect(stratifiedFolds(GOLD, 5, 3)).toEqual(stratifiedFolds(GOLD, 5, 3))
    expect(stratifiedFolds(GOLD, 5, 3)).not.toEqual(stratifiedFolds(GOLD, 5, 4))
  })

  test('cannot outnumber the examples', ({ expect }) => {
    expect(() => stratifiedFolds([0, 1], 3, 0)).toThrow(RangeError)
  })
})

describe('batches', () => {
  const sizesOf = (batches: readonly number[]): number[] =>
    Array.from(
      { length: 1 + Math.max(...batches) },
      (_, batch) => batches.filter((own) => own === batch).length,
    )

  test('are a third of the examples, from six to 32, with each label about as often', ({
    expect,
  }) => {
    const goldOf = (length: number) => Array.from({ length }, (_, i) => i % 2)
    expect(sizesOf(stratifiedBatches(goldOf(20), 1))).toEqual([7, 7, 6])
    expect(sizesOf(stratifiedBatches(goldOf(4), 1))).toEqual([4])
    expect(sizesOf(stratifiedBatches(goldOf(200), 1)).every((size) => size <= 32)).toBe(true)
    const batches = stratifiedBatches(goldOf(20), 1)
    for (const batch of [0, 1, 2]) {
      const labels = goldOf(20).filter((_, i) => batches[i] === batch)
      const ones = labels.reduce((sum, label) => sum + label, 0)
      expect(Math.abs(2 * ones - labels.length)).toBeLessThanOrEqual(1)
    }
  })

  test('are not the folds', ({ expect }) => {
    const gold = Array.from({ length: 20 }, (_, i) => i % 2)
    expect(stratifiedBatches(gold, 1)).not.toEqual(stratifiedFolds(gold, 3, 1))
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

  test('first scores every example once at the identity', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const query = search.ask(search.start())!
    expect(query.numCandidates).toBe(1)
    expect(query.layers).toEqual([0, 1, 2, 3])
    expect(query.values.every((value) => value === 0)).toBe(true)
    expect(query.examples).toBeNull()
    // A gradient of all examples at once would tell a fold its own: none is asked for.
    expect(query.weights.every((weight) => weight === 0)).toBe(true)
    const state = search.tell(search.start(), pull(GOLD.map(() => 0.5))(query))
    expect(state.history[0]!.heldOutLoss).toBeCloseTo(0.25, 6)
    expect(state.history[0]!.trainLoss).toBeCloseTo(0.25, 6)
    expect(state.adam.values.every((value) => value === 0)).toBe(true)
  })

  test('then takes batch after batch, and fits each candidate to the batch outside its fold', ({
    expect,
  }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    const numBatches = 1 + Math.max(...search.batches)
    expect(numBatches).toBe(2)
    let state = search.tell(search.start(), pull(targets)(search.ask(search.start())!))
    for (let step = 0; step < 2 * numBatches; step++) {
      const query = search.ask(state)!
      const batch = GOLD.flatMap((_, i) => (search.batches[i] === step % numBatches ? [i] : []))
      expect(query.examples).toEqual(batch)
      expect(query.skipsUnweighted).toBe(false)
      for (let fold = 0; fold < 5; fold++) {
        const weights = query.weights.subarray(fold * GOLD.length, (fold + 1) * GOLD.length)
        expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 6)
        expect([...weights.keys()].filter((i) => weights[i] !== 0)).toEqual(
          batch.filter((i) => search.folds[i] !== fold),
        )
      }
      state = search.tell(state, pull(targets)(query))
      // The moment of the first step is a tenth of the mean gradient over the batch's other folds.
      for (let fold = 0; step === 0 && fold < 5; fold++) {
        const seen = batch.filter((i) => search.folds[i] !== fold).map((i) => targets[i]!)
        const slope = seen.reduce((sum, target) => sum - (2 * target) / seen.length, 0)
        expect(state.adam.mean[fold * 8]).toBeCloseTo(0.1 * slope, 6)
      }
    }
  })

  test('drops a share of the prompts’ tokens, anew in each step, but not at the identity', ({
    expect,
  }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, promptDropout: 0.3 } })
    const seeds = new Set<number>()
    let state = search.start()
    for (let query = search.ask(state); query !== null; query = search.ask(state)) {
      if (state.history.length === 0) expect(query.promptDropout).toBeUndefined()
      else {
        expect(query.promptDropout!.share).toBe(0.3)
        seeds.add(query.promptDropout!.seed)
        // A step that is asked again is the same.
        expect(search.ask(state)!.promptDropout).toEqual(query.promptDropout)
      }
      state = search.tell(state, pull(GOLD.map(() => 0.5))(query))
    }
    // The last step is looked at as well.
    expect(seeds.size).toBe(options.numSteps + 1)
    const whole = new GradientSearch({ ...spec, options: { ...options, promptDropout: 0 } })
    run(whole, (query) => {
      expect(query.promptDropout).toBeUndefined()
      return pull(GOLD.map(() => 0.5))(query)
    })
    for (const promptDropout of [-0.1, 1, NaN]) {
      expect(() => new GradientSearch({ ...spec, options: { promptDropout } })).toThrow(RangeError)
    }
  })

  test('knows each example’s losses from when it was last in a batch', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    let state = search.tell(search.start(), pull(targets)(search.ask(search.start())!))
    const latest = targets.map((target) => target ** 2)
    for (let step = 0; step < 5; step++) {
      const query = search.ask(state)!
      for (const example of query.examples!) {
        const angle = query.values[search.folds[example]! * 8]!
        latest[example] = (angle - targets[example]!) ** 2
      }
      const answer = pull(targets)(query)
      const wanted = new Set(query.examples)
      const logProbs = answer.logProbs.map((v, i) => (wanted.has(i % GOLD.length) ? v : NaN))
      state = search.tell(state, { ...answer, logProbs })
      const mean = latest.reduce((sum, loss) => sum + loss, 0) / GOLD.length
      expect(state.history).toHaveLength(1 + step)
      expect(state.history.at(-1)!.heldOutLoss).toBeCloseTo(mean, 6)
      expect(Number.isFinite(state.history.at(-1)!.trainLoss)).toBe(true)
    }
    expect(state.history[4]!.heldOutLoss).toBeLessThan(state.history[0]!.heldOutLoss)
  })

  test('finds what all examples agree on', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const state = run(search, pull(GOLD.map(() => 0.5)))
    const { layers } = search.best(state)
    expect(layers.get(0)!.angles[0]).toBeCloseTo(0.5, 1)
    expect([...layers.get(3)!.angles]).toEqual([0, 0])
  })

  test('averages its steps, with more weight on later ones', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, numSteps: 4 } })
    const values: number[] = []
    const losses: number[] = []
    const state = run(search, pull(GOLD.map((_, i) => 0.3 + 0.05 * i)), (next) => {
      if (next.numStepsDone > 0) values[next.numStepsDone] = next.adam.values[0]!
      losses[next.history.length - 1] = next.history.at(-1)!.heldOutLoss
      return next
    })
    expect(state.history).toHaveLength(1 + 4)
    // The recursion amounts to weights t(t + 1) for step t.
    const weights = [1, 2, 3, 4].map((t) => t * (t + 1))
    const averageOf = (of: readonly number[]): number =>
      weights.reduce((sum, weight, i) => sum + weight * of[i + 1]!, 0) /
      weights.reduce((sum, weight) => sum + weight, 0)
    expect(search.foldValues(state, 0)[0]).toBeCloseTo(averageOf(values), 5)
    expect(state.heldOutLoss).toBeCloseTo(averageOf(losses), 6)
  })

  test('ends if its held-out loss diverges, and keeps nothing', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    let loss = 0.9
    const state = run(search, (query) => ({
      logProbs: new Float32Array(query.weights.length).fill(-(loss += 0.1)),
      gradient: new Float32Array(query.values.length).fill(1),
    }))
    expect(hasDiverged(state)).toBe(true)
    expect(state.history.length).toBeGreaterThan(6)
    expect(state.history.length).toBeLessThan(14)
    for (const rotation of [search.best(state), ...search.foldRotations(state)]) {
      const layers = [...rotation.layers.values()]
      expect(layers.every(({ angles }) => angles.every((v) => v === 0))).toBe(true)
    }
  })

  test('continues if only its first steps are worse', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, numSteps: 12 } })
    const state = run(search, (query) => {
      const moved = query.values.some((value) => value !== 0)
      const isEarly = Math.abs(query.values[0]!) < 0.08
      const logProbs = new Float32Array(query.weights.length).fill(moved && isEarly ? -3 : -0.5)
      return { logProbs, gradient: new Float32Array(query.values.length).fill(1) }
    })
    expect(Math.max(...state.history.map(({ heldOutLoss }) => heldOutLoss))).toBeGreaterThan(1)
    expect(state.history).toHaveLength(1 + 12)
    expect(hasDiverged(state)).toBe(false)
  })

  test('returns the folds’ mean, scaled to their mean norm', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options: { ...options, numSteps: 8 } })
    // Two folds pull the first angle, two the second, and one both.
    const state = run(search, (query) => {
      const gradient = new Float32Array(query.values.length)
      for (let fold = 0; fold < 5 && query.numCandidates === 5; fold++) {
        if (fold % 2 === 0) gradient[fold * 8] = -1
        if (fold % 2 === 1 || fold === 0) gradient[fold * 8 + 1] = -1
      }
      return { logProbs: new Float32Array(query.weights.length).fill(-1), gradient }
    })
    const found = search.foldRotations(state).map(({ layers }) => [...layers.get(0)!.angles])
    expect(found.some(([a, b]) => Math.abs(a! - b!) > 0.01)).toBe(true)
    const lengthOf = ([a, b]: readonly number[]): number => Math.hypot(a!, b!)
    const mean = found.reduce((sum, own) => sum + lengthOf(own), 0) / 5
    expect(lengthOf([...search.best(state).layers.get(0)!.angles])).toBeCloseTo(mean, 5)
  })

  test('rotates only the layers of its window, optionally with scales', ({ expect }) => {
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

  test('resumes from its bytes and takes the same steps', ({ expect }) => {
    const targets = GOLD.map((label, i) => 0.3 + 0.1 * label + 0.02 * i)
    const search = new GradientSearch({ ...spec, options })
    const whole = run(search, pull(targets))
    const broken = run(search, pull(targets), (state) => {
      // At an odd offset, because storage may return such a view.
      const bytes = encodeGradientState(state)
      const shifted = new Uint8Array(bytes.length + 1)
      shifted.set(bytes, 1)
      const decoded = decodeGradientState(shifted.subarray(1))
      if (!decoded.ok) throw new Error(decoded.error.reason)
      return decoded.value
    })
    expect(broken).toEqual(whole)
  })

  test('refuses bytes of another version or length', ({ expect }) => {
    const bytes = encodeGradientState(new GradientSearch(spec).start())
    expect(decodeGradientState(bytes.subarray(0, -4))).toMatchObject({ ok: false })
    expect(decodeGradientState(new Uint8Array(3))).toMatchObject({ ok: false })
    const other = bytes.slice()
    other[0] = 99
    expect(decodeGradientState(other)).toEqual({ ok: false, error: { reason: 'version' } })
  })

  test('refuses answers that are not finite, and invalid options', ({ expect }) => {
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

describe('the folds’ rotations', () => {
  const spec = { geometry: GEOMETRY, gold: GOLD, seed: 1 }
  const options = { learningRate: 0.05, numSteps: 40 }
  const firstAngle = (search: GradientSearch, state: GradientState) =>
    search.foldRotations(state).map(({ layers }) => layers.get(0)!.angles[0]!)

  test('are each fold’s candidate, without the fold’s own examples', ({ expect }) => {
    const search = new GradientSearch({ ...spec, options })
    const targets = GOLD.map((_, i) => 0.3 + 0.05 * i)
    const fold = 2
    // The fold's own examples pull elsewhere, and are less likely with every step.
    const others = targets.map((target, i) => (search.folds[i] === fold ? -1 : target))
    const [honest, spoilt] = [run(search, pull(targets)), run(search, pull(others))]
    expect(firstAngle(search, spoilt)[fold]).toBe(firstAngle(search, honest)[fold])
    for (const other of [0, 1, 3, 4]) {
      expect(firstAngle(search, spoilt)[other]).not.toBe(firstAngle(search, honest)[other])
    }
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
