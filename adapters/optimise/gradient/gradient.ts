import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import {
  pairsPerLayer,
  type Geometry,
  type LayerRotation,
  type Rotation,
} from '../../rotation/rotation.ts'
import { startAdam, stepAdam, type AdamOptions, type AdamState } from './adam.ts'
import { countFolds, NUM_FOLDS, stratifiedBatches, stratifiedFolds } from './folds.ts'

export type GradientOptions = AdamOptions & {
  /** Steps at most; the folds choose how many of them are kept. */
  readonly numSteps: number
  readonly numFolds: number
  /** Steps without a lower held-out loss after which the search ends; null is a share of all. */
  readonly patience: number | null
  /** First and last layer rotated, both included; null is every layer. */
  readonly layers: readonly [number, number] | null
  /** Whether log scales are fitted beside the angles. */
  readonly hasLogScale: boolean
}

/** Of all steps, those to go without a lower held-out loss; held-out loss can rise and fall again. */
const PATIENCE_SHARE = 0.35
const MIN_PATIENCE = 4
/** Nats: less than this is no lower loss but another order of the same sums. */
const LEAST_IMPROVEMENT = 1e-5
export const DEFAULT_GRADIENT_OPTIONS: GradientOptions = {
  // Against other rates, batches and numbers of steps, on validation rows: docs/decisions/0004-gradient.md.
  learningRate: 0.05,
  decay: 0,
  numSteps: 24,
  numFolds: NUM_FOLDS,
  patience: null,
  layers: null,
  hasLogScale: false,
}

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
  /** What the folds' candidates come to together, where held-out loss was lowest. */
  readonly best: Float32Array
  readonly bestStep: number
  /** Of each fold's candidate, its values where the other folds' held-out loss was lowest: [folds, …] */
  readonly foldBest: Float32Array
  readonly foldBestSteps: readonly number[]
}

/**
 * Adam on a rotation's angles (and log scales). One candidate a fold is fitted to the other folds'
 * examples, side by side in one call a step. A step takes one batch of the examples: each candidate
 * steps by those of the batch that are not in its fold, and those that are tell its held-out loss.
 * That loss says after how many steps to stop: fits of twenty examples reach a training loss of zero
 * whether or not they learnt anything. The result is the mean of the candidates, since angles add: it
 * does as well as a candidate fitted to all examples would, whose rows it saves, and what batches
 * make uneven in one candidate evens out in their mean.
 *
 * Value-only ask and tell (`Optimiser`) has no place for gradients or for 0.6 MB of moments, so
 * this is an interface of its own: `ask` of a state, `tell` makes the next.
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

  /** @throws {RangeError} an option makes no sense for the geometry or the examples */
  constructor({ geometry, gold, groups, sizes, batches, seed, options = {} }: GradientSpec) {
    this.options = { ...DEFAULT_GRADIENT_OPTIONS, ...options }
    this.#geometry = geometry
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

  get #patience(): number {
    const { patience, numSteps } = this.options
    return patience ?? Math.max(MIN_PATIENCE, Math.ceil(PATIENCE_SHARE * numSteps))
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
      best: new Float32Array(this.#numValues),
      bestStep: 0,
      foldBest: new Float32Array(this.#numFolds * this.#numValues),
      foldBestSteps: new Array<number>(this.#numFolds).fill(0),
    }
  }

  /** @returns null where the search is done */
  ask({ history, numTaken, adam, bestStep }: GradientState): GradientQuery | null {
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
    if (history.length > numSteps || history.length - 1 - bestStep >= this.#patience) return null
    return {
      numCandidates: this.#numFolds,
      layers,
      hasLogScale,
      values: adam.values,
      weights: this.#weights(numTaken),
      examples: this.#numBatches === 1 ? null : this.#batchOf(numTaken),
      skipsUnweighted: false,
    }
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
      return { ...state, ...seen, history: [this.#summarise(seen)] }
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
    return numTaken === 0 ? next : { ...next, ...this.#record(state, this.#summarise(seen)) }
  }

  /** What is known after losses of the candidates as they stand; better ones are kept. */
  #record(
    state: GradientState,
    step: GradientStep,
  ): Pick<GradientState, 'history' | 'best' | 'bestStep' | 'foldBest' | 'foldBestSteps'> {
    const { history, bestStep, numTaken } = state
    const { values } = state.adam
    const isBest = isLower(step.heldOutLoss, history[bestStep]!.heldOutLoss)
    const foldBest = state.foldBest.slice()
    const foldBestSteps = state.foldBestSteps.map((before, fold) => {
      if (!isLower(othersLoss(step, fold), othersLoss(history[before]!, fold))) return before
      foldBest.set(this.#valuesOf(fold, values), fold * this.#numValues)
      return numTaken
    })
    return {
      history: [...history, step],
      best: isBest ? this.#mean(values) : state.best,
      bestStep: isBest ? numTaken : bestStep,
      foldBest,
      foldBestSteps,
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

  /** The mean of the folds' rotations after as many steps as they chose together. */
  best({ best }: GradientState): Rotation {
    return this.toRotation(best)
  }

  /**
   * What the same search gives without each fold, for judging it: the candidate fitted to the other
   * folds, after as many steps as their held-out losses choose. The fold's own examples have no
   * part in its candidate's angles, nor their loss in its choice of steps.
   */
  foldRotations({ foldBest }: GradientState): Rotation[] {
    const size = foldBest.length / this.#numFolds
    return Array.from({ length: this.#numFolds }, (_, fold) =>
      this.toRotation(foldBest.slice(fold * size, (fold + 1) * size)),
    )
  }

  /** The rotation that one candidate's values stand for. */
  toRotation(values: Float32Array): Rotation {
    const pairs = pairsPerLayer(this.#geometry)
    const layers = new Map<number, LayerRotation>()
    for (const [i, layer] of this.#layers.entries()) {
      const angles = values.slice(i * pairs, (i + 1) * pairs)
      const logScale = values.slice(this.#size + i * pairs, this.#size + (i + 1) * pairs)
      layers.set(layer, logScale.length === 0 ? { angles } : { angles, logScale })
    }
    return { geometry: this.#geometry, layers }
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

  /**
   * The candidates' mean, as long as they are on average: where fits of sixteen examples of twenty
   * differ they cancel, which shortens the mean and makes its answers less sure than theirs.
   */
  #mean(values: Float32Array): Float32Array {
    const sum = new Float64Array(values.length / this.#numFolds)
    let length = 0
    for (let fold = 0; fold < this.#numFolds; fold++) {
      const own = this.#valuesOf(fold, values)
      length += Math.sqrt(own.reduce((total, value) => total + value * value, 0))
      for (let i = 0; i < sum.length; i++) sum[i]! += own[i]!
    }
    const sumLength = Math.sqrt(sum.reduce((total, value) => total + value * value, 0))
    const share = sumLength > 0 ? length / this.#numFolds / sumLength : 0
    return Float32Array.from(sum, (value) => value * share)
  }

  #valuesOf(candidate: number, values: Float32Array): Float32Array {
    const size = this.#size
    const numParts = values.length / (this.numCandidates * size)
    const own = new Float32Array(numParts * size)
    for (let part = 0; part < numParts; part++) {
      const at = (part * this.numCandidates + candidate) * size
      own.set(values.subarray(at, at + size), part * size)
    }
    return own
  }
}

const isLower = (loss: number, known: number): boolean => loss < known - LEAST_IMPROVEMENT

/** Held-out loss of all folds but one; of one search's steps, sums compare as means do. */
const othersLoss = ({ foldLosses }: GradientStep, fold: number): number =>
  foldLosses.reduce((sum, loss, other) => (other === fold ? sum : sum + loss), 0)

function checkOptions(options: GradientOptions, { numLayers }: Geometry): void {
  const { learningRate, decay, numSteps, patience, layers } = options
  if (!(learningRate > 0 && learningRate <= 1)) throw new RangeError(`rate ${learningRate}`)
  if (!(decay >= 0 && decay * learningRate < 1)) throw new RangeError(`decay ${decay}`)
  if (!Number.isInteger(numSteps) || numSteps < 1) throw new RangeError(`numSteps ${numSteps}`)
  if (patience !== null && (!Number.isInteger(patience) || patience < 1)) {
    throw new RangeError(`patience ${patience}`)
  }
  const [first, last] = layers ?? [0, numLayers - 1]
  if (!(Number.isInteger(first) && Number.isInteger(last) && first >= 0 && last < numLayers)) {
    throw new RangeError(`layers ${first} to ${last} of ${numLayers}`)
  }
  if (first > last) throw new RangeError(`layers ${first} to ${last}`)
}
