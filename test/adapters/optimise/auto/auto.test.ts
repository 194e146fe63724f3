import { describe, test } from 'vitest'
import { AutoSearch, type AutoState } from '../../../../adapters/optimise/auto/auto.ts'
import {
  DEFAULT_CONFIGURATION,
  nextConfiguration,
  toConfiguration,
} from '../../../../adapters/optimise/auto/space.ts'
import { decodeAutoState, encodeAutoState } from '../../../../adapters/optimise/auto/state.ts'
import {
  DEFAULT_GRADIENT_OPTIONS,
  type GradientAnswer,
  type GradientQuery,
} from '../../../../adapters/optimise/gradient/gradient.ts'

const GEOMETRY = { numLayers: 10, numHeads: 1, headDim: 4 }
const GOLD = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
const TARGETS = GOLD.map((label, i) => 0.2 + 0.05 * label + 0.01 * i)
const PAIRS = 2

/**
 * Examples that each pull the first angle of the upper five layers to a place of their own, and those
 * of the lower five astray: log P = −Σ(upper − target)² − Σ min(lower², 0.02), with a slope that hides the
 * latter.
 */
function pull({
  numCandidates,
  layers,
  values,
  weights,
  hasLogScale,
}: GradientQuery): GradientAnswer {
  const half = hasLogScale ? values.length / 2 : values.length
  const size = half / numCandidates
  const logProbs = new Float32Array(weights.length)
  const gradient = new Float32Array(values.length)
  for (let candidate = 0; candidate < numCandidates; candidate++) {
    for (const [example, target] of TARGETS.entries()) {
      const at = candidate * TARGETS.length + example
      for (const [i, layer] of layers.entries()) {
        const place = candidate * size + i * PAIRS
        const gap = values[place]! - (layer < 5 ? 0 : target)
        logProbs[at]! -= layer < 5 ? Math.min(gap ** 2, 0.02) : gap ** 2
        gradient[place]! += weights[at]! * (layer < 5 ? -0.1 : 2 * gap)
      }
    }
  }
  return { logProbs, gradient }
}

const spec = { geometry: GEOMETRY, gold: GOLD, seed: 3 }
const search = (numTrials: number, budgetMs = 1e6) =>
  new AutoSearch({ ...spec, options: { numTrials, budgetMs } })

function run(
  auto: AutoSearch,
  elapsedMs = 1,
  keep: (state: AutoState) => AutoState = (state) => state,
): { readonly state: AutoState; readonly queries: GradientQuery[] } {
  let state = auto.start()
  const queries: GradientQuery[] = []
  for (let query = auto.ask(state); query !== null; query = auto.ask(state)) {
    queries.push(query)
    if (queries.length > 1000) throw new Error('the search does not end')
    state = keep(auto.tell(state, pull(query), elapsedMs))
  }
  return { state, queries }
}

describe('the space of configurations', () => {
  test('begins with the defaults of a gradient fit', ({ expect }) => {
    expect(nextConfiguration([], 1)).toEqual(DEFAULT_CONFIGURATION)
    const { learningRate, numSteps, promptDropout } = DEFAULT_GRADIENT_OPTIONS
    expect(toConfiguration(DEFAULT_CONFIGURATION, GEOMETRY, DEFAULT_GRADIENT_OPTIONS)).toEqual({
      learningRate,
      numSteps,
      layers: null,
      decay: 0,
      hasLogScale: false,
      promptDropout: expect.closeTo(promptDropout, 12) as number,
    })
  })

  test('continues with scales, then smaller steps on whole prompts, then a fifth of the prompts', ({
    expect,
  }) => {
    const told: { readonly z: readonly number[]; readonly value: number }[] = []
    const [defaults, scaled, slow, sparse] = [0, 1, 2, 3].map((i) => {
      const z = nextConfiguration(told, 1)
      told.push({ z, value: -i })
      return toConfiguration(z, GEOMETRY, DEFAULT_GRADIENT_OPTIONS)
    })
    expect(scaled).toMatchObject({ hasLogScale: true, learningRate: defaults!.learningRate })
    expect(slow!.promptDropout).toBe(0)
    expect(slow!.learningRate).toBeCloseTo(0.6 * DEFAULT_GRADIENT_OPTIONS.learningRate, 12)
    expect(sparse!.promptDropout).toBeCloseTo(0.8, 12)
    // There are more steps if they are smaller or read fewer tokens.
    const { numSteps, promptDropout } = DEFAULT_GRADIENT_OPTIONS
    const wholeSteps = numSteps / (1 + 1.5 * promptDropout)
    expect(slow!.numSteps).toBe(Math.round(wholeSteps / 0.6))
    expect(sparse!.numSteps).toBe(Math.round(wholeSteps * (1 + 1.5 * 0.8)))
    expect(sparse!.numSteps).toBeGreaterThan(scaled!.numSteps)
  })

  test('drops layers from either end, and never all', ({ expect }) => {
    const layersAt = (window: number) =>
      toConfiguration([0, window, 0, 0, 0], GEOMETRY, DEFAULT_GRADIENT_OPTIONS).layers
    expect(layersAt(-0.5)).toEqual([3, 9])
    expect(layersAt(0.5)).toEqual([0, 6])
    expect(layersAt(0.1)).toBeNull()
    const one = { ...GEOMETRY, numLayers: 1 }
    expect(toConfiguration([0, 1, 0, 0, 0], one, DEFAULT_GRADIENT_OPTIONS).layers).toBeNull()
  })

  test('has a dropout within bounds, and none at its lower end', ({ expect }) => {
    const shareAt = (dropout: number) =>
      toConfiguration([0, 0, 0, 0, dropout], GEOMETRY, DEFAULT_GRADIENT_OPTIONS).promptDropout
    expect([shareAt(-1), shareAt(-0.21)]).toEqual([0, 0])
    expect(shareAt(-0.2)).toBeCloseTo(0.2, 12)
    expect(shareAt(1)).toBeCloseTo(0.8, 12)
  })

  test('is searched by the earlier trials and the seed', ({ expect }) => {
    const told = [0, 1, 2, 3, 4, 5, 6].map((i) => ({
      z: [i / 4 - 0.5, 0, 0, 0, 0],
      value: -((i - 3) ** 2),
    }))
    const next = nextConfiguration(told, 1)
    expect(next).toEqual(nextConfiguration(told, 1))
    expect(next.every((value) => Math.abs(value) <= 1)).toBe(true)
    expect(next).not.toEqual(nextConfiguration(told.slice(0, 6), 1))
    expect(nextConfiguration(told.slice(0, 4), 1)).not.toEqual(
      nextConfiguration(told.slice(0, 4), 2),
    )
  })
})

describe('the search over configurations', () => {
  test('has a lower held-out loss than the defaults', ({ expect }) => {
    const auto = search(12)
    const { state } = run(auto)
    expect(state.trials).toHaveLength(12)
    const { choice } = auto.best(state)
    const chosen = choice!.foldLosses.reduce((sum, loss) => sum + loss, 0) / GOLD.length
    expect(state.trials[0]!.end).toBe('finished')
    expect(chosen).toBeLessThan(0.9 * state.trials[0]!.heldOutLoss)
    // All choices were scored on the same folds.
    for (const { foldLosses } of state.choices) {
      expect(chosen * GOLD.length).toBeLessThanOrEqual(
        foldLosses.reduce((sum, loss) => sum + loss, 0),
      )
    }
  })

  test('abandons configurations that lag', ({ expect }) => {
    const auto = search(4)
    let state = auto.start()
    for (let query = auto.ask(state); query !== null; query = auto.ask(state)) {
      // The first gains with every step; the others never do.
      const gain =
        state.trials.length === 0 ? 0.02 * (state.current?.gradient.numStepsDone ?? 0) : 0
      const logProbs = new Float32Array(query.weights.length).fill(-1 + gain)
      const gradient = new Float32Array(query.values.length).fill(1)
      state = auto.tell(state, { logProbs, gradient }, 1)
    }
    const [first, ...others] = state.trials
    expect(first!.end).toBe('finished')
    expect(first!.numSteps).toBe(DEFAULT_GRADIENT_OPTIONS.numSteps)
    expect(others).toHaveLength(3)
    for (const { end, numSteps, heldOutLoss } of others) {
      expect(end).toBe('abandoned')
      expect(numSteps).toBe(16)
      expect(heldOutLoss).toBeCloseTo(1, 6)
    }
  })

  test('always finishes the first configuration, and stops at its budget', ({ expect }) => {
    const slow = run(search(16, 5), 1)
    expect(slow.state.trials).toHaveLength(1)
    expect(slow.state.trials[0]!.end).toBe('finished')
    const auto = search(100, 250)
    const { state, queries } = run(auto)
    expect(state.trials.length).toBeGreaterThan(3)
    expect(state.trials.length).toBeLessThan(20)
    expect(state.spentMs).toBe(queries.length)
    // The rest of the budget is for scoring choices.
    expect(state.trials.reduce((sum, { spentMs }) => sum + spentMs, 0)).toBeLessThanOrEqual(226)
    expect(state.spentMs).toBeLessThanOrEqual(250)
  })

  test('resumes from its bytes and takes the same steps', ({ expect }) => {
    const whole = run(search(6))
    const broken = run(search(6), 1, (state) => {
      // At an odd offset, as storage may hand it out, and by a search that knows nothing else.
      const bytes = encodeAutoState(state)
      const shifted = new Uint8Array(bytes.length + 1)
      shifted.set(bytes, 1)
      const decoded = decodeAutoState(shifted.subarray(1))
      if (!decoded.ok) throw new Error(decoded.error.reason)
      return decoded.value
    })
    expect(broken.state).toEqual(whole.state)
    expect(search(6).best(broken.state)).toEqual(search(6).best(whole.state))
    expect(search(6).foldRotations(broken.state)).toEqual(search(6).foldRotations(whole.state))
  })

  test('refuses bytes of another version or length', ({ expect }) => {
    const bytes = encodeAutoState(search(2).start())
    expect(decodeAutoState(bytes.subarray(0, -4))).toMatchObject({ ok: false })
    expect(decodeAutoState(new Uint8Array(3))).toMatchObject({ ok: false })
    const other = bytes.slice()
    other[0] = 99
    expect(decodeAutoState(other)).toEqual({ ok: false, error: { reason: 'version' } })
  })

  test('stays within the runner’s limits, and scores only held-out examples', ({ expect }) => {
    const { queries } = run(search(6))
    for (const { numCandidates, weights } of queries) {
      expect(numCandidates).toBeLessThanOrEqual(32)
      expect(weights).toHaveLength(numCandidates * GOLD.length)
    }
    const { weights, skipsUnweighted, numCandidates } = queries.at(-1)!
    expect(skipsUnweighted).toBe(true)
    expect(weights.filter((weight) => weight !== 0)).toHaveLength((numCandidates * GOLD.length) / 5)
  })

  test('judges a configuration by its finished fit on whole prompts', ({ expect }) => {
    const auto = search(8)
    let state = auto.start()
    const scored: number[] = []
    for (let query = auto.ask(state); query !== null; query = auto.ask(state)) {
      const answer = pull(query)
      const isFit = state.current?.end != null
      expect(query.skipsUnweighted).toBe(isFit || state.current === null)
      if (query.skipsUnweighted) expect(query.promptDropout).toBeUndefined()
      if (isFit) {
        const own = answer.logProbs.filter((_, i) => query.weights[i] !== 0)
        expect(own).toHaveLength(GOLD.length)
        const loss = -own.reduce((sum, value) => sum + value, 0) / GOLD.length
        scored.push(loss)
      }
      state = auto.tell(state, answer, 1)
      if (isFit) expect(state.trials.at(-1)!.heldOutLoss).toBeCloseTo(scored.at(-1)!, 6)
    }
    expect(scored).toHaveLength(8)
  })

  test('judges a fold without its own losses', ({ expect }) => {
    const { state } = run(search(6))
    const auto = search(6)
    const fold = 2
    const before = auto.foldRotations(state)
    // Other losses of the fold alone: another end for the job, the same for the fold.
    const choices = state.choices.map((choice, i) => ({
      ...choice,
      foldLosses: choice.foldLosses.map((loss, k) => (k === fold ? ((i + 1) * 37) % 11 : loss)),
    }))
    const after = auto.foldRotations({ ...state, choices })
    expect(after[fold]).toEqual(before[fold])
    expect(after).not.toEqual(before)
  })

  test('keeps the identity if nothing helps', ({ expect }) => {
    const auto = search(3)
    let state = auto.start()
    let loss = 1
    for (let query = auto.ask(state); query !== null; query = auto.ask(state)) {
      loss = query.values.every((value) => value === 0) ? 1 : loss + 0.1
      const logProbs = new Float32Array(query.weights.length).fill(-loss)
      state = auto.tell(
        state,
        { logProbs, gradient: new Float32Array(query.values.length).fill(1) },
        1,
      )
    }
    expect(auto.best(state).choice).toBeNull()
    expect(auto.best(state).rotation.layers.size).toBe(0)
    expect(auto.foldRotations(state).every(({ layers }) => layers.size === 0)).toBe(true)
  })

  test('refuses invalid budgets', ({ expect }) => {
    expect(() => search(0)).toThrow(RangeError)
    expect(() => search(2, 0)).toThrow(RangeError)
    expect(() => search(2, NaN)).toThrow(RangeError)
  })
})
