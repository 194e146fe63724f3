import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import { pairsPerLayer, type Geometry, type Rotation } from '../../rotation/rotation.ts'
import { createRng } from '../rng.ts'
import { startAdam, stepAdam, type AdamOptions, type AdamState } from './adam.ts'
import { countFolds, NUM_FOLDS, stratifiedBatches, stratifiedFolds } from './folds.ts'
import { meanCandidate } from './mean.ts'
import { toRotation } from './values.ts'

export type GradientOptions = AdamOptions & {
  /** The most steps; a search that diverges ends earlier. */
  readonly numSteps: number
  readonly numFolds: number
  /** First and last rotated layer, both included; null for all layers. */
  readonly layers: readonly [number, number] | null
  /** Whether the search fits log scales beside the angles. */
  readonly hasLogScale: boolean
  /** Share of a prompt's own tokens that each step drops, drawn anew; 0 for whole prompts. */
  readonly promptDropout: number
}

/** A search diverges if its averaged held-out loss exceeds the identity's by this many nats. */
const DIVERGENCE_NATS = 0.5
/** Not checked before this step, because the first steps may shift all labels together and come back. */
const DIVERGENCE_FROM_STEP = 6
/** In the average over steps, the weight of step t grows as t to this power. */
const AVERAGE_POWER = 2
export const DEFAULT_GRADIENT_OPTIONS: GradientOptions = {
  // Compared with other rates, batches and numbers of steps: docs/decisions/0004-gradient.md.
  learningRate: 0.05,
  decay: 0,
  numSteps: 32,
  numFolds: NUM_FOLDS,
  layers: null,
  hasLogScale: false,
  promptDropout: 0.3,
}
/** Stream of the seed's generator; the folds and the other optimisers use others. */
const STREAM_DROPOUT = 13

export type GradientSpec = {
  readonly geometry: Geometry
  /** Label of each example. */
  readonly gold: readonly number[]
  /** Group of each example; a group stays in one fold. By default each example is its own group. */
  readonly groups?: readonly number[]
  /** Weight of each example in the mean losses: a target's number of tokens; 1 by default. */
  readonly sizes?: readonly number[]
  /** Batch of each example, from 0; `stratifiedBatches` by default. */
  readonly batches?: readonly number[]
  /** A safe integer; decides the folds and the batches. */
  readonly seed: number
  readonly options?: Partial<GradientOptions>
}

/** The next call that the search asks for; its arrays have the layout of the runner's gradient call. */
export type GradientQuery = {
  readonly numCandidates: number
  readonly layers: readonly number[]
  readonly hasLogScale: boolean
  /** Angles [candidates, layers, pairs], then with `hasLogScale` log scales of the same shape. */
  readonly values: Float32Array
  /** Weight of each log P(right label) in the loss, [candidates, examples]. */
  readonly weights: Float32Array
  /** Indices of the examples to compute, null for all; the answer may hold anything for the others. */
  readonly examples: readonly number[] | null
  /** Whether the answer may also hold anything for log probabilities of weight 0. */
  readonly skipsUnweighted: boolean
  /** Which share of the prompts' tokens to drop, and the seed that draws them; absent for none. */
  readonly promptDropout?: { readonly share: number; readonly seed: number }
}

/** The answer to a query. */
export type GradientAnswer = {
  /** log P(right label), [candidates, examples] */
  readonly logProbs: Float32Array
  /** d loss / d values, as `values` */
  readonly gradient: Float32Array
}

/** Losses after a step. An example's loss comes from the last batch that held it. */
export type GradientStep = {
  /** Mean −log P(right label) of the examples under the candidates that are fitted to them. */
  readonly trainLoss: number
  /** The same of each example under the candidate that is not fitted to it. */
  readonly heldOutLoss: number
  /** Sums of the held-out losses over each fold's examples, [folds] */
  readonly foldLosses: readonly number[]
}

/** The state of a search: a pure function of the spec and the answers so far. */
export type GradientState = {
  /** Losses after 0, 1, 2, … steps; the first are the identity's on all examples. */
  readonly history: readonly GradientStep[]
  /** Number of steps so far. */
  readonly numStepsDone: number
  /** Each example's latest losses, [examples]; empty before the first answer. */
  readonly trainLosses: Float64Array
  readonly heldOutLosses: Float64Array
  /** The candidates and Adam's moments after these steps. */
  readonly adam: AdamState
  /** Weighted average of the candidates over the steps, with more weight on later ones. */
  readonly average: Float32Array
  /** Average of the held-out losses with the same weights. */
  readonly heldOutLoss: number
}

/**
 * Fits a rotation's angles, and optionally its log scales, with Adam. Each fold has one candidate, which
 * is fitted to the examples of the other folds; one call per step serves all candidates. A step takes one
 * batch of examples. Each candidate steps on those outside its fold, and those inside give its held-out
 * loss.
 *
 * A candidate's result is a weighted average over its steps, which removes the noise of the batches. The
 * search's result is the mean of the candidates, because angles add: it does as well as one more
 * candidate fitted to all examples, and saves that candidate's rows. A search whose held-out loss
 * diverges ends. The held-out loss does not choose the number of steps, because it measures single
 * candidates, and their mean is better than each of them (docs/decisions/0004-gradient.md).
 *
 * The `Optimiser` interface has no place for gradients or for 0.6 MB of moments. Here `ask` reads a
 * state, and `tell` returns the next one; both are pure.
 * Source of the average: Shamir and Zhang 2013, arXiv:1212.1824, section 4
 */
export class GradientSearch {
  readonly options: GradientOptions
  readonly #geometry: Geometry
  readonly #layers: readonly number[]
  /** Fold of each example. */
  readonly folds: readonly number[]
  /** Batch of each example. */
  readonly batches: readonly number[]
  readonly #numBatches: number
  readonly #numFolds: number
  readonly #sizes: readonly number[]
  readonly #seed: number

  /** @throws {RangeError} an option is invalid for the geometry or the examples */
  constructor({ geometry, gold, groups, sizes, batches, seed, options = {} }: GradientSpec) {
    this.options = { ...DEFAULT_GRADIENT_OPTIONS, ...options }
    this.#geometry = geometry
    this.#seed = seed
    checkOptions(this.options, geometry)
    const [first, last] = this.options.layers ?? [0, geometry.numLayers - 1]
    this.#layers = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    this.#numFolds = countFolds(groups ?? gold.map((_, example) => example), this.options.numFolds)
    this.folds = stratifiedFolds(gold, this.#numFolds, seed, groups)
    this.#sizes = sizes ?? gold.map(() => 1)
    if (this.#sizes.length !== gold.length)
      throw new RangeError(`${this.#sizes.length} sizes for ${gold.length} examples`)
    this.batches = batches ?? stratifiedBatches(gold, seed)
    if (this.batches.length !== gold.length)
      throw new RangeError(`${this.batches.length} batches for ${gold.length} examples`)
    this.#numBatches = 1 + Math.max(...this.batches)
  }

  /** Number of candidates in a step's query: one per fold. */
  get numCandidates(): number {
    return this.#numFolds
  }

  /** Length of one candidate's values: its angles, and with `hasLogScale` its log scales. */
  get #numValues(): number {
    return this.options.hasLogScale ? 2 * this.#size : this.#size
  }

  /** Length of one candidate's angles. */
  get #size(): number {
    return this.#layers.length * pairsPerLayer(this.#geometry)
  }

  start(): GradientState {
    return {
      history: [],
      numStepsDone: 0,
      trainLosses: new Float64Array(),
      heldOutLosses: new Float64Array(),
      adam: startAdam(this.#numFolds * this.#numValues),
      average: new Float32Array(this.#numFolds * this.#numValues),
      heldOutLoss: NaN,
    }
  }

  /** @returns the next query, or null if the search is done */
  ask(state: GradientState): GradientQuery | null {
    const { history, numStepsDone, adam } = state
    const { numSteps, hasLogScale } = this.options
    const layers = this.#layers
    if (history.length === 0) {
      // Weights of 0: only the identity's losses. A gradient over all examples would leak each fold's own.
      return {
        numCandidates: 1,
        layers,
        hasLogScale,
        values: new Float32Array(this.#numValues),
        weights: new Float32Array(this.folds.length),
        examples: null,
        skipsUnweighted: false,
      }
    }
    if (history.length > numSteps || hasDiverged(state)) return null
    return {
      numCandidates: this.#numFolds,
      layers,
      hasLogScale,
      values: adam.values,
      weights: this.#weights(numStepsDone),
      examples: this.#numBatches === 1 ? null : this.#batchOf(numStepsDone),
      skipsUnweighted: false,
      ...this.#dropoutOf(numStepsDone),
    }
  }

  /** The prompt dropout of the step after `numStepsDone` steps. */
  #dropoutOf(numStepsDone: number): Pick<GradientQuery, 'promptDropout'> {
    const { promptDropout: share } = this.options
    if (share === 0) return {}
    const { uniform } = createRng(this.#seed, STREAM_DROPOUT, numStepsDone)
    return { promptDropout: { share, seed: Math.floor(uniform() * 2 ** 32) } }
  }

  /** The examples of the step after `numStepsDone` steps. */
  #batchOf(numStepsDone: number): number[] {
    const batch = numStepsDone % this.#numBatches
    return this.batches.flatMap((own, example) => (own === batch ? [example] : []))
  }

  /**
   * @param answer to the query that `ask(state)` returned
   * @returns the next state
   * @throws {RangeError} the answer has another shape or is not finite
   */
  tell(state: GradientState, { logProbs, gradient }: GradientAnswer): GradientState {
    const numExamples = this.folds.length
    const isFirst = state.history.length === 0
    if (logProbs.length !== (isFirst ? 1 : this.#numFolds) * numExamples) {
      throw new RangeError(`the answer has ${logProbs.length} log probabilities`)
    }
    if (!gradient.every(Number.isFinite)) throw new RangeError('the gradient is not finite')
    const lossOf = (candidate: number, example: number): number =>
      -Math.max(
        logProbs[candidate * numExamples + example]!,
        LOG_PROB_FLOOR * this.#sizes[example]!,
      )
    if (isFirst) {
      const losses = Float64Array.from(this.folds, (_, example) => lossOf(0, example))
      const seen = { trainLosses: losses, heldOutLosses: losses }
      const identity = this.#summarise(seen)
      return { ...state, ...seen, history: [identity], heldOutLoss: identity.heldOutLoss }
    }
    const { numStepsDone } = state
    const seen = {
      trainLosses: state.trainLosses.slice(),
      heldOutLosses: state.heldOutLosses.slice(),
    }
    for (const example of this.#batchOf(numStepsDone)) {
      const fold = this.folds[example]!
      let sum = 0
      for (let candidate = 0; candidate < this.#numFolds; candidate++) {
        if (candidate !== fold) sum += lossOf(candidate, example)
      }
      seen.trainLosses[example] = sum / (this.#numFolds - 1)
      seen.heldOutLosses[example] = lossOf(fold, example)
    }
    const adam = stepAdam(state.adam, gradient, numStepsDone, this.options)
    const next = { ...state, ...seen, adam, numStepsDone: numStepsDone + 1 }
    // The first batch was scored at the identity, whose losses are known.
    if (numStepsDone === 0) return next
    const step = this.#summarise(seen)
    const share = (AVERAGE_POWER + 1) / (numStepsDone + AVERAGE_POWER)
    return {
      ...next,
      history: [...state.history, step],
      average: state.average.map((known, i) => known + share * (state.adam.values[i]! - known)),
      heldOutLoss: state.heldOutLoss + share * (step.heldOutLoss - state.heldOutLoss),
    }
  }

  #summarise({
    trainLosses,
    heldOutLosses,
  }: Pick<GradientState, 'trainLosses' | 'heldOutLosses'>): GradientStep {
    const totalSize = this.#sizes.reduce((sum, size) => sum + size, 0)
    const foldLosses = new Array<number>(this.#numFolds).fill(0)
    for (const [example, fold] of this.folds.entries()) foldLosses[fold]! += heldOutLosses[example]!
    const sumOf = (losses: Iterable<number>): number =>
      [...losses].reduce((sum, loss) => sum + loss, 0)
    return {
      trainLoss: sumOf(trainLosses) / totalSize,
      heldOutLoss: sumOf(foldLosses) / totalSize,
      foldLosses,
    }
  }

  /** The mean of the folds' rotations; the identity if the search diverged. */
  best(state: GradientState): Rotation {
    const folds = Array.from({ length: this.#numFolds }, (_, k) => this.foldValues(state, k))
    return this.toRotation(meanCandidate(folds))
  }

  /**
   * One rotation per fold, for out-of-fold predictions: the candidate fitted to the other folds. The
   * fold's own examples affect it in one way only: their loss may end the whole search.
   */
  foldRotations(state: GradientState): Rotation[] {
    return Array.from({ length: this.#numFolds }, (_, fold) =>
      this.toRotation(this.foldValues(state, fold)),
    )
  }

  /** One fold's candidate: its angles, then its log scales; zeros if the search diverged. */
  foldValues(state: GradientState, fold: number): Float32Array {
    const { average } = state
    if (hasDiverged(state)) return new Float32Array(this.#numValues)
    const size = this.#size
    const numParts = average.length / (this.#numFolds * size)
    const own = new Float32Array(numParts * size)
    for (let part = 0; part < numParts; part++) {
      const at = (part * this.#numFolds + fold) * size
      own.set(average.subarray(at, at + size), part * size)
    }
    return own
  }

  /** The rotation with one candidate's values. */
  toRotation(values: Float32Array): Rotation {
    return toRotation(this.#geometry, this.#layers, values)
  }

  /** Weights with which the loss is a candidate's mean over its examples in the batch; others get 0. */
  #weights(numStepsDone: number): Float32Array {
    const numExamples = this.folds.length
    const batch = this.#batchOf(numStepsDone)
    const weights = new Float32Array(this.#numFolds * numExamples)
    for (let candidate = 0; candidate < this.#numFolds; candidate++) {
      const fitted = batch.filter((example) => this.folds[example] !== candidate)
      const size = fitted.reduce((sum, example) => sum + this.#sizes[example]!, 0)
      for (const example of fitted) weights[candidate * numExamples + example] = 1 / size
    }
    return weights
  }
}

/** Whether the held-out loss exceeds the identity's so far that no useful fit comes back from it. */
export function hasDiverged({
  history,
  heldOutLoss,
}: Pick<GradientState, 'history' | 'heldOutLoss'>): boolean {
  return (
    history.length > DIVERGENCE_FROM_STEP && heldOutLoss > history[0]!.heldOutLoss + DIVERGENCE_NATS
  )
}

function checkOptions(options: GradientOptions, { numLayers }: Geometry): void {
  const { learningRate, decay, numSteps, layers, promptDropout } = options
  if (!(learningRate > 0 && learningRate <= 1))
    throw new RangeError(`learningRate ${learningRate} is not in (0, 1]`)
  if (!(decay >= 0 && decay * learningRate < 1))
    throw new RangeError(`decay ${decay} is negative or too large`)
  if (!Number.isInteger(numSteps) || numSteps < 1)
    throw new RangeError(`numSteps ${numSteps} is not a positive integer`)
  if (!(promptDropout >= 0 && promptDropout < 1)) {
    throw new RangeError(`promptDropout ${promptDropout} is not in [0, 1)`)
  }
  const [first, last] = layers ?? [0, numLayers - 1]
  if (!(Number.isInteger(first) && Number.isInteger(last) && first >= 0 && last < numLayers)) {
    throw new RangeError(`layers ${first} to ${last} are outside a model with ${numLayers}`)
  }
  if (first > last) throw new RangeError(`no layers ${first} to ${last}`)
}
