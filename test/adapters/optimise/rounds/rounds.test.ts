import { describe, test } from 'vitest'
import type {
  GradientAnswer,
  GradientQuery,
} from '../../../../adapters/optimise/gradient/gradient.ts'
import type { RoundFit } from '../../../../adapters/optimise/rounds/options.ts'
import {
  RoundSearch,
  type Draw,
  type RoundState,
} from '../../../../adapters/optimise/rounds/rounds.ts'
import { selectTexts } from '../../../../adapters/optimise/rounds/select.ts'
import { decodeRoundState, encodeRoundState } from '../../../../adapters/optimise/rounds/state.ts'
import { createRng } from '../../../../adapters/optimise/rng.ts'
import type { Rotation } from '../../../../adapters/rotation/rotation.ts'

const GEOMETRY = { numLayers: 2, numHeads: 1, headDim: 4 }
const NUM_VALUES = 4
const NUM_EXAMPLES = 12
const OPTIONS = {
  numRounds: 4,
  numSamples: 6,
  numSteps: 3,
  learningRate: 0.2,
  beta: 0.5,
  numFolds: 2,
} as const

const searchOf = (fit: RoundFit, options: Partial<RoundSearch['options']> = {}): RoundSearch =>
  new RoundSearch({
    geometry: GEOMETRY,
    numExamples: NUM_EXAMPLES,
    seed: 3,
    options: { ...OPTIONS, fit, ...options },
  })

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
const firstAngle = ({ layers }: Rotation): number => layers.get(0)?.angles[0] ?? 0

/**
 * A model that says one of two words: the good one with probability σ(4·angle − 1), the first angle
 * alone counting. Its gradient is exact.
 */
class Toy {
  readonly #search: RoundSearch
  readonly #scoreOf: (isGood: boolean, round: number) => number
  #isGood: boolean[] = []
  /** The texts of the current round. */
  kept: Draw[] = []
  readonly queries: GradientQuery[] = []
  readonly draws: (readonly Draw[])[] = []

  constructor(
    search: RoundSearch,
    scoreOf: (isGood: boolean, round: number) => number = (isGood) => Number(isGood),
  ) {
    this.#search = search
    this.#scoreOf = scoreOf
  }

  step(state: RoundState): RoundState | null {
    const query = this.#search.ask(state)
    if (query === null) return null
    if (query.kind === 'fit') {
      this.queries.push(query.query)
      return this.#search.tellGradient(state, this.differentiate(query.query))
    }
    const { round, rotations, draws } = query
    this.draws.push(draws)
    const isGood = draws.map(({ candidate, example, sample }) => {
      const p = sigmoid(4 * firstAngle(rotations[candidate]!) - 1)
      return createRng(1, round, candidate, example, sample).uniform() < p
    })
    const told = this.#search.tellScores(
      state,
      isGood.map((good) => this.#scoreOf(good, round)),
    )
    this.kept = told.kept.map((place) => draws[place]!)
    this.#isGood = told.kept.map((place) => isGood[place]!)
    return told.state
  }

  run(state = this.#search.start()): RoundState {
    let now = state
    for (let next = this.step(now); next !== null; next = this.step(now)) now = next
    return now
  }

  differentiate({ numCandidates, values, weights }: GradientQuery): GradientAnswer {
    const numTexts = this.kept.length
    const logProbs = new Float32Array(numCandidates * numTexts)
    const gradient = new Float32Array(values.length)
    for (let candidate = 0; candidate < numCandidates; candidate++) {
      const p = sigmoid(4 * values[candidate * NUM_VALUES]! - 1)
      for (let text = 0; text < numTexts; text++) {
        const at = candidate * numTexts + text
        logProbs[at] = weights[at] === 0 ? NaN : Math.log(this.#isGood[text]! ? p : 1 - p)
        const slope = this.#isGood[text]! ? 4 * (1 - p) : -4 * p
        gradient[candidate * NUM_VALUES] = gradient[candidate * NUM_VALUES]! - weights[at]! * slope
      }
    }
    return { logProbs, gradient }
  }
}

describe('choosing texts', () => {
  const texts = [
    { group: 0, score: 0.2 },
    { group: 1, score: 0.5 },
    { group: 0, score: 0.9 },
    { group: 1, score: 0.5 },
    { group: 0, score: 0.1 },
    { group: 0, score: 0.9 },
  ]

  test('takes the best of each group, or the best and the worst, on a tie the earliest', ({
    expect,
  }) => {
    expect(selectTexts(texts, 'best')).toEqual([2])
    expect(selectTexts(texts, 'pairs')).toEqual([2, 4])
  })

  test('refuses a score that is not finite', ({ expect }) => {
    expect(() => selectTexts([{ group: 0, score: NaN }], 'best')).toThrow(RangeError)
  })
})

describe('a search in rounds', () => {
  for (const fit of ['best', 'pairs'] as const) {
    test(`by ${fit} learns texts with high grades, and more often than chance`, ({ expect }) => {
      const search = searchOf(fit)
      const state = new Toy(search).run()
      expect(state.history).toHaveLength(1 + OPTIONS.numRounds)
      const scores = state.history.map(({ heldOutScore }) => heldOutScore)
      expect(scores[0]).toBeLessThan(0.45)
      expect(scores[state.bestRound]).toBeGreaterThan(0.8)
      expect(state.history.at(-1)!.drawnScore).toBeNull()
      expect(firstAngle(search.best(state))).toBeGreaterThan(0.5)
      for (const rotation of search.foldRotations(state)) {
        expect(firstAngle(rotation)).toBeGreaterThan(0.3)
      }
    })
  }

  test('generates with the base model first, then with each fold’s candidate', ({ expect }) => {
    const search = searchOf('best')
    const toy = new Toy(search)
    toy.run()
    const countOf = (round: number, example: number, candidate: number): number =>
      toy.draws[round]!.filter((d) => d.example === example && d.candidate === candidate).length
    for (const [example, fold] of search.folds.entries()) {
      const other = 1 - fold
      expect([countOf(0, example, 0), countOf(0, example, 1)]).toEqual([6, 0])
      expect([countOf(1, example, other), countOf(1, example, fold)]).toEqual([6, 3])
      // Nothing is fitted after the last round, so it generates only held-out texts.
      expect([countOf(4, example, other), countOf(4, example, fold)]).toEqual([0, 3])
    }
  })

  test('fits no candidate to texts of its own fold’s prompts or of another candidate', ({
    expect,
  }) => {
    for (const numFolds of [2, 3]) {
      const search = searchOf('pairs', { numFolds })
      const toy = new Toy(search)
      let state = search.start()
      for (let next = toy.step(state); next !== null; next = toy.step(state)) {
        state = next
        const query = search.ask(state)
        if (query?.kind !== 'fit') continue
        const { weights, numCandidates } = query.query
        for (let own = 0; own < numCandidates; own++) {
          const isUsed = toy.kept.map((_, text) => weights[own * toy.kept.length + text] !== 0)
          const isRound0 = state.history.length === 1
          expect(isUsed).toEqual(
            toy.kept.map(
              ({ example, candidate }) =>
                search.folds[example] !== own && (isRound0 || candidate === own),
            ),
          )
        }
      }
    }
  })

  test('gives a pair’s texts opposite weights, smaller once the best text is likelier', ({
    expect,
  }) => {
    const search = searchOf('pairs')
    const toy = new Toy(search)
    toy.run()
    const [first, second] = toy.queries
    const rowOf = ({ weights }: GradientQuery): number[] =>
      [...weights.subarray(0, weights.length / 2)].filter((weight) => weight !== 0)
    for (const row of [rowOf(first!), rowOf(second!)]) {
      for (let pair = 0; pair < row.length; pair += 2) expect(row[pair + 1]).toBe(-row[pair]!)
    }
    // β·σ(0), shared by the candidate's pairs.
    const [atFirst, later, numPairs] = [rowOf(first!)[0]!, rowOf(second!), rowOf(first!).length / 2]
    expect(atFirst).toBeCloseTo(OPTIONS.beta / 2 / numPairs, 6)
    // The weights follow the last answer, which was the reference itself.
    expect(later[0]).toBeCloseTo(atFirst, 6)
    expect(rowOf(toy.queries[2]!)[0]).toBeLessThan(atFirst)
  })

  test('resumes from its bytes at any step and ends the same', ({ expect }) => {
    const search = searchOf('pairs')
    const alone = new Toy(search).run()
    const toy = new Toy(search)
    let state = search.start()
    for (let next = toy.step(state); next !== null; next = toy.step(state)) {
      const read = decodeRoundState(encodeRoundState(next))
      if (!read.ok) throw new Error(read.error.reason)
      expect(read.value).toEqual(next)
      state = read.value
    }
    expect(state).toEqual(alone)
  })

  test('refuses bytes that are not a state', ({ expect }) => {
    const bytes = encodeRoundState(searchOf('best').start())
    expect(decodeRoundState(bytes.subarray(0, 3)).ok).toBe(false)
    expect(decodeRoundState(bytes.subarray(0, bytes.length - 4)).ok).toBe(false)
    const other = new TextDecoder().decode(bytes).replace('"version":1', '"version":9')
    expect(decodeRoundState(new TextEncoder().encode(other).subarray(0, bytes.length))).toEqual({
      ok: false,
      error: { reason: 'version' },
    })
  })

  test('ends with the base model if all texts have the same grade', ({ expect }) => {
    const search = searchOf('best')
    const state = new Toy(search, () => 0.5).run()
    expect(state.history).toHaveLength(1)
    expect(search.best(state).layers.size).toBe(0)
    expect(search.foldRotations(state).every(({ layers }) => layers.size === 0)).toBe(true)
  })

  test('ends with the base model if held-out scores only fall', ({ expect }) => {
    const search = searchOf('pairs')
    const state = new Toy(search, (isGood, round) => Number(isGood) - 2 * round).run()
    expect(state.history).toHaveLength(1 + OPTIONS.numRounds)
    expect(state.bestRound).toBe(0)
    expect(search.best(state).layers.size).toBe(0)
  })

  test('ignores the log probabilities of texts with weight 0', ({ expect }) => {
    const search = searchOf('pairs', { beta: 1e6, learningRate: 0.9 })
    const state = new Toy(search).run()
    expect(state.adam.values.every(Number.isFinite)).toBe(true)
  })

  test('refuses invalid options, scores and gradients', ({ expect }) => {
    for (const options of [
      { numRounds: 0 },
      { numSamples: 1 },
      { numSteps: 0.5 },
      { numFolds: 1 },
      { learningRate: 0 },
      { beta: 0 },
    ]) {
      expect(() => searchOf('pairs', options)).toThrow(RangeError)
    }
    const search = searchOf('best')
    const start = search.start()
    expect(() => search.tellScores(start, [1])).toThrow(RangeError)
    const scores = new Array<number>(NUM_EXAMPLES * OPTIONS.numSamples).fill(0)
    expect(() => search.tellScores(start, scores.with(5, NaN))).toThrow(RangeError)
    const none = new Float32Array(0)
    expect(() => search.tellGradient(start, { logProbs: none, gradient: none })).toThrow(RangeError)
  })
})
