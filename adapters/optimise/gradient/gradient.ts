import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import { pairsPerLayer, type Geometry, type Rotation } from '../../rotation/rotation.ts'
import { createRng } from '../rng.ts'
import { startAdam, stepAdam, type AdamOptions, type AdamState } from './adam.ts'
import { countFolds, NUM_FOLDS, stratifiedBatches, stratifiedFolds } from './folds.ts'
import { meanCandidate } from './mean.ts'
import { toRotation } from './values.ts'

export type GradientOptions = AdamOptions & {
  /** Steps at most: the folds end a search that runs astray. */
  readonly numSteps: number
  readonly numFolds: number
  /** First and last layer rotated, both included; null is every layer. */
  readonly layers: readonly [number, number] | null
  /** Whether log scales are fitted beside the angles. */
  readonly hasLogScale: boolean
  /** Share of their own tokens that prompts are read without, others in each step; 0 reads them whole. */
  readonly promptDropout: number
}

/** Nats of averaged held-out loss above the identity's at which a search has run astray and ends. */
const ASTRAY = 0.5
/** The first steps may shift all labels together and come back: they say nothing yet. */
const ASTRAY_FROM_STEP = 6
/** Of the average of steps: the weight of step t grows as t to this power. */
const AVERAGE_POWER = 2
export const DEFAULT_GRADIENT_OPTIONS: GradientOptions = {
  // Against other rates, batches and numbers of steps, on validation rows: docs/decisions/0004-gradient.md.
  learningRate: 0.05,
  decay: 0,
  numSteps: 32,
  numFolds: NUM_FOLDS,
  layers: null,
  hasLogScale: false,
  promptDropout: 0.3,
}
/** Stream of the seed's generator, apart from those of the folds and of other optimisers. */
const STREAM_DROPOUT = 13

export type GradientSpec = {
  readonly geometry: Geometry
  /** Label of each example. */
  readonly gold: readonly number[]
  /** Equal for examples that stay in one fold; none by default. */
  readonly groups?: readonly number[]
  /** What each example counts for: the tokens of a target; 1 by default. */
  readonly sizes?: readonly number[]
  /** Batch of each example, from 0; by default as `stratifiedBatches` makes them. */
  readonly batches?: readonly number[]
  /** A safe integer; decides the folds and the batches. */
  readonly seed: number
  readonly options?: Partial<GradientOptions>
}

/** What is to be differentiated next; laid out as the runner takes it. */
export type GradientQuery = {
  readonly numCandidates: number
  readonly layers: readonly number[]
  readonly hasLogScale: boolean
  /** Angles [candidates, layers, pairs], then log scales of the same shape where there are any. */
  readonly values: Float32Array
  /** [candidates, examples]: what log P(right label) of an example counts for. */
  readonly weights: Float32Array
  /** Examples that are wanted, by index; an answer may have anything for the others. Null is all. */
  readonly examples: readonly number[] | null
  /** Nor are log probabilities of weight 0 wanted. */
  readonly skipsUnweighted: boolean
  /** Tokens of the prompts that are not read; absent where they are read whole. */
  readonly promptDropout?: { readonly share: number; readonly seed: number }
}

/** What came of a query. */
export type GradientAnswer = {
  /** log P(right label), [candidates, examples] */
  readonly logProbs: Float32Array
  /** d loss / d values, as `values` */
  readonly gradient: Float32Array
}

/** Losses as the latest batches showed them, each example when it was last in one. */
export type GradientStep = {
  /** Mean −log P(right label) of the examples under the candidates that are fitted to them. */
  readonly trainLoss: number
  /** The same over examples, each under the candidate that was not fitted to it. */
  readonly heldOutLoss: number
  /** What each fold adds to the held-out loss, summed over its examples: [folds] */
  readonly foldLosses: readonly number[]
}

/** Where the search stands; a pure function of the spec and the answers so far. */
export type GradientState = {
  /** Losses after 0, 1, 2, … steps; the first are the identity's, of all examples. */
  readonly history: readonly GradientStep[]
  /** Steps taken. */
  readonly numTaken: number
  /** Each example's losses when it was last seen: [examples]; empty before the first answer. */
  readonly trainLosses: Float64Array
  readonly heldOutLosses: Float64Array
  /** The candidates after the steps taken. */
  readonly adam: AdamState
  /** Average of the candidates over the steps, later ones counting more; as `adam.values`. */
  readonly average: Float32Array
  /** Of the held-out losses, with the same weights. */
  readonly heldOutLoss: number
}

/**
 * Adam on a rotation's angles (and log scales). One candidate a fold is fitted to the other folds'
 * examples, side by side in one call a step. A step takes one batch of the examples: each candidate
 * steps by those of the batch that are not in its fold, and those that are tell its held-out loss.
 * A search whose held-out loss runs away from the identity's is ended; no step is chosen by it, since
 * it is that of candidates alone, each of which errs where their mean does not
 * (docs/decisions/0004-gradient.md). A candidate is the average of its steps, the later ones counting
 * more, which takes out what batches make uneven. The result is the candidates' mean, since angles
 * add: it does as well as a candidate fitted to all examples would, whose rows it saves.
 *
 * Value-only ask and tell (`Optimiser`) has no place for gradients or for 0.6 MB of moments, so
 * this is an interface of its own: `ask` of a state, `tell` makes the next.
 * Source: of the average, Shamir and Zhang 2013, arXiv:1212.1824, section 4
 */
export class GradientSearch {
  readonly options: GradientOptions
  readonly #geometry: Geometry
  readonly #layers: readonly number[]
  /** Fold of each example. */
  readonly folds: readonly number[]
  /** Batch of each example, and how many there are. */
  readonly batches: readonly number[]
  readonly #numBatches: number
  readonly #numFolds: number
  readonly #sizes: readonly number[]
  readonly #seed: number

  /** @throws {RangeError} an option makes no sense for the geometry or the examples */
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
    if (this.#sizes.length !== gold.length) throw new RangeError(`${this.#sizes.length} sizes`)
    this.batches = batches ?? stratifiedBatches(gold, seed)
    if (this.batches.length !== gold.length) throw new RangeError(`${this.batches.length} batches`)
    this.#numBatches = 1 + Math.max(...this.batches)
  }

  /** Candidates of a step's query: one a fold. */
  get numCandidates(): number {
    return this.#numFolds
  }

  /** Length of one candidate's values: its angles, and its log scales where there are any. */
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
      numTaken: 0,
      trainLosses: new Float64Array(),
      heldOutLosses: new Float64Array(),
      adam: startAdam(this.#numFolds * this.#numValues),
      average: new Float32Array(this.#numFolds * this.#numValues),
      heldOutLoss: NaN,
    }
  }

  /** @returns null where the search is done */
  ask(state: GradientState): GradientQuery | null {
    const { history, numTaken, adam } = state
    const { numSteps, hasLogScale } = this.options
    const layers = this.#layers
    if (history.length === 0) {
      // The identity's losses alone: a gradient of all examples would tell a fold its own.
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
    if (history.length > numSteps || isAstray(state)) return null
    return {
      numCandidates: this.#numFolds,
      layers,
      hasLogScale,
      values: adam.values,
      weights: this.#weights(numTaken),
      examples: this.#numBatches === 1 ? null : this.#batchOf(numTaken),
      skipsUnweighted: false,
      ...this.#dropoutOf(numTaken),
    }
  }

  /** What the step after so many does without. */
  #dropoutOf(numTaken: number): Pick<GradientQuery, 'promptDropout'> {
    const { promptDropout: share } = this.options
    if (share === 0) return {}
    const { uniform } = createRng(this.#seed, STREAM_DROPOUT, numTaken)
    return { promptDropout: { share, seed: Math.floor(uniform() * 2 ** 32) } }
  }

  /** The examples of the step that comes after so many. */
  #batchOf(numTaken: number): number[] {
    const batch = numTaken % this.#numBatches
    return this.batches.flatMap((own, example) => (own === batch ? [example] : []))
  }

  /** @throws {RangeError} an answer of another shape, or one that is not finite */
  tell(state: GradientState, { logProbs, gradient }: GradientAnswer): GradientState {
    const numExamples = this.folds.length
    const isFirst = state.history.length === 0
    if (logProbs.length !== (isFirst ? 1 : this.#numFolds) * numExamples) {
      throw new RangeError(`${logProbs.length} log probabilities`)
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
    const { numTaken } = state
    const seen = {
      trainLosses: state.trainLosses.slice(),
      heldOutLosses: state.heldOutLosses.slice(),
    }
    for (const example of this.#batchOf(numTaken)) {
      const fold = this.folds[example]!
      let sum = 0
      for (let candidate = 0; candidate < this.#numFolds; candidate++) {
        if (candidate !== fold) sum += lossOf(candidate, example)
      }
      seen.trainLosses[example] = sum / (this.#numFolds - 1)
      seen.heldOutLosses[example] = lossOf(fold, example)
    }
    const adam = stepAdam(state.adam, gradient, numTaken, this.options)
    const next = { ...state, ...seen, adam, numTaken: numTaken + 1 }
    // The first batch is of the identity still, whose losses are all known.
    if (numTaken === 0) return next
    const step = this.#summarise(seen)
    const share = (AVERAGE_POWER + 1) / (numTaken + AVERAGE_POWER)
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

  /** The mean of the folds' rotations; the identity where the search ran astray. */
  best(state: GradientState): Rotation {
    const folds = Array.from({ length: this.#numFolds }, (_, k) => this.foldValues(state, k))
    return this.toRotation(meanCandidate(folds))
  }

  /**
   * What the same search gives without each fold, for judging it: the candidate fitted to the other
   * folds. The fold's own examples have no part in it, but that they may end all searches.
   */
  foldRotations(state: GradientState): Rotation[] {
    return Array.from({ length: this.#numFolds }, (_, fold) =>
      this.toRotation(this.foldValues(state, fold)),
    )
  }

  /** One fold's candidate: its angles, then its log scales. Zeros where the search ran astray. */
  foldValues(state: GradientState, fold: number): Float32Array {
    const { average } = state
    if (isAstray(state)) return new Float32Array(this.#numValues)
    const size = this.#size
    const numParts = average.length / (this.#numFolds * size)
    const own = new Float32Array(numParts * size)
    for (let part = 0; part < numParts; part++) {
      const at = (part * this.#numFolds + fold) * size
      own.set(average.subarray(at, at + size), part * size)
    }
    return own
  }

  /** The rotation that one candidate's values stand for. */
  toRotation(values: Float32Array): Rotation {
    return toRotation(this.#geometry, this.#layers, values)
  }

  /** Mean over the batch's examples that a candidate is fitted to; 0 for those held out. */
  #weights(numTaken: number): Float32Array {
    const numExamples = this.folds.length
    const batch = this.#batchOf(numTaken)
    const weights = new Float32Array(this.#numFolds * numExamples)
    for (let candidate = 0; candidate < this.#numFolds; candidate++) {
      const fitted = batch.filter((example) => this.folds[example] !== candidate)
      const size = fitted.reduce((sum, example) => sum + this.#sizes[example]!, 0)
      for (const example of fitted) weights[candidate * numExamples + example] = 1 / size
    }
    return weights
  }
}

/** Whether the held-out loss is where no fit worth keeping has been seen to be. */
export function isAstray({
  history,
  heldOutLoss,
}: Pick<GradientState, 'history' | 'heldOutLoss'>): boolean {
  return history.length > ASTRAY_FROM_STEP && heldOutLoss > history[0]!.heldOutLoss + ASTRAY
}

function checkOptions(options: GradientOptions, { numLayers }: Geometry): void {
  const { learningRate, decay, numSteps, layers, promptDropout } = options
  if (!(learningRate > 0 && learningRate <= 1)) throw new RangeError(`rate ${learningRate}`)
  if (!(decay >= 0 && decay * learningRate < 1)) throw new RangeError(`decay ${decay}`)
  if (!Number.isInteger(numSteps) || numSteps < 1) throw new RangeError(`numSteps ${numSteps}`)
  if (!(promptDropout >= 0 && promptDropout < 1)) {
    throw new RangeError(`prompt dropout ${promptDropout}`)
  }
  const [first, last] = layers ?? [0, numLayers - 1]
  if (!(Number.isInteger(first) && Number.isInteger(last) && first >= 0 && last < numLayers)) {
    throw new RangeError(`layers ${first} to ${last} of ${numLayers}`)
  }
  if (first > last) throw new RangeError(`layers ${first} to ${last}`)
}
