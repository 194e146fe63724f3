import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import {
  pairsPerLayer,
  type Geometry,
  type LayerRotation,
  type Rotation,
} from '../../rotation/rotation.ts'
import { startAdam, stepAdam, type AdamOptions, type AdamState } from './adam.ts'
import { countFolds, NUM_FOLDS, stratifiedFolds } from './folds.ts'
import { meanCandidate } from './mean.ts'

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

/** Steps from one look at the held-out examples to the next: a fifth of a step's work is theirs. */
const SCORING_INTERVAL = 2
/** Of all steps, those to go without a lower held-out loss; held-out loss can rise and fall again. */
const PATIENCE_SHARE = 0.35
/** Two looks. */
const MIN_PATIENCE = 2 * SCORING_INTERVAL
export const DEFAULT_GRADIENT_OPTIONS: GradientOptions = {
  // Against 0.03 and 0.1, on validation rows: docs/decisions/0004-gradient.md.
  learningRate: 0.06,
  decay: 0,
  numSteps: 10,
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
  /** A safe integer; decides the folds. */
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
  /** Log probabilities of weight 0 are not wanted: an answer may have anything there. */
  readonly skipsUnweighted: boolean
}

/** What came of a query. */
export type GradientAnswer = {
  /** log P(right label), [candidates, examples] */
  readonly logProbs: Float32Array
  /** d loss / d values, as `values` */
  readonly gradient: Float32Array
}

export type GradientStep = {
  /** Mean −log P(right label) of the examples under the candidates that are fitted to them. */
  readonly trainLoss: number
  /**
   * The same over examples, each under the candidate that was not fitted to it; null after a step
   * that did not look.
   */
  readonly heldOutLoss: number | null
  /** What each fold adds to the held-out loss, summed over its examples: [folds]; empty likewise. */
  readonly foldLosses: readonly number[]
}

/** Where the search stands; a pure function of the spec and the answers so far. */
export type GradientState = {
  /** Losses after 0, 1, 2, … steps. */
  readonly history: readonly GradientStep[]
  /** The candidates after as many steps as `history` is long. */
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
 * examples, side by side in one call a step. Their held-out loss says after how many steps to stop:
 * fits of twenty examples reach a training loss of zero whether or not they learnt anything. The
 * result is the mean of the candidates, since angles add: it does as well as a candidate fitted to
 * all examples would, whose rows it saves.
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
  readonly #numFolds: number
  readonly #sizes: readonly number[]

  /** @throws {RangeError} an option makes no sense for the geometry or the examples */
  constructor({ geometry, gold, groups, sizes, seed, options = {} }: GradientSpec) {
    this.options = { ...DEFAULT_GRADIENT_OPTIONS, ...options }
    this.#geometry = geometry
    checkOptions(this.options, geometry)
    const [first, last] = this.options.layers ?? [0, geometry.numLayers - 1]
    this.#layers = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    this.#numFolds = countFolds(groups ?? gold.map((_, example) => example), this.options.numFolds)
    this.folds = stratifiedFolds(gold, this.#numFolds, seed, groups)
    this.#sizes = sizes ?? gold.map(() => 1)
    if (this.#sizes.length !== gold.length) throw new RangeError(`${this.#sizes.length} sizes`)
  }

  /** Candidates of a query: one a fold. */
  get numCandidates(): number {
    return this.#numFolds
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
    const numParts = this.options.hasLogScale ? 2 : 1
    return {
      history: [],
      adam: startAdam(this.numCandidates * this.#size * numParts),
      best: new Float32Array(this.#size * numParts),
      bestStep: 0,
      foldBest: new Float32Array(this.#numFolds * this.#size * numParts),
      foldBestSteps: new Array<number>(this.#numFolds).fill(0),
    }
  }

  /** @returns null where the search is done */
  ask({ history, adam, bestStep }: GradientState): GradientQuery | null {
    const { numSteps, hasLogScale } = this.options
    if (history.length > numSteps || history.length - 1 - bestStep >= this.#patience) return null
    const isFirst = history.length === 0
    return {
      numCandidates: this.numCandidates,
      layers: this.#layers,
      hasLogScale,
      values: adam.values,
      // All candidates are the identity still: each differentiates its own fold, for all of them.
      weights: isFirst ? this.#foldWeights() : this.#weights(),
      skipsUnweighted: isFirst || !this.#isScored(history.length),
    }
  }

  /** Whether the folds' held-out examples are looked at after a number of steps. */
  #isScored(step: number): boolean {
    return step % SCORING_INTERVAL === 0 || step === this.options.numSteps
  }

  /** @throws {RangeError} an answer of another shape, or one that is not finite */
  tell(state: GradientState, { logProbs, gradient }: GradientAnswer): GradientState {
    const numExamples = this.folds.length
    if (logProbs.length !== this.numCandidates * numExamples) {
      throw new RangeError(`${logProbs.length} log probabilities`)
    }
    if (!gradient.every(Number.isFinite)) throw new RangeError('the gradient is not finite')
    const numDone = state.history.length
    const lossOf = (candidate: number, example: number): number =>
      -Math.max(
        logProbs[candidate * numExamples + example]!,
        LOG_PROB_FLOOR * this.#sizes[example]!,
      )
    const totalSize = this.#sizes.reduce((sum, size) => sum + size, 0)
    const isScored = this.#isScored(numDone)
    const foldLosses = new Array<number>(isScored ? this.#numFolds : 0).fill(0)
    let trainLoss = 0
    for (const [example, fold] of this.folds.entries()) {
      if (isScored) foldLosses[fold]! += lossOf(fold, example)
      for (let candidate = 0; candidate < this.#numFolds; candidate++) {
        if (candidate === fold) continue
        const loss = lossOf(numDone === 0 ? fold : candidate, example)
        trainLoss += loss / (this.#numFolds - 1) / totalSize
      }
    }
    const slopes = numDone === 0 ? this.#combineFolds(gradient) : gradient
    const adam = stepAdam(state.adam, slopes, numDone, this.options)
    if (!isScored) {
      const history = [...state.history, { trainLoss, heldOutLoss: null, foldLosses }]
      return { ...state, history, adam }
    }
    const heldOutLoss = foldLosses.reduce((sum, loss) => sum + loss, 0) / totalSize
    const step: GradientStep = { trainLoss, heldOutLoss, foldLosses }
    const isBest = heldOutLoss < (state.history[state.bestStep]?.heldOutLoss ?? Infinity)
    const { values } = state.adam
    const foldBest = state.foldBest.slice()
    const foldBestSteps = state.foldBestSteps.map((before, fold) => {
      const known = state.history[before]
      if (known !== undefined && othersLoss(step, fold) >= othersLoss(known, fold)) return before
      foldBest.set(this.#valuesOf(fold, values), (fold * foldBest.length) / this.#numFolds)
      return numDone
    })
    return {
      history: [...state.history, step],
      adam,
      best: isBest ? this.#mean(values) : state.best,
      bestStep: isBest ? numDone : state.bestStep,
      foldBest,
      foldBestSteps,
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

  /** Sizes of what a fold's candidate is fitted to, summed. */
  #fittedSize(candidate: number): number {
    return this.#sizes.reduce(
      (sum, size, example) => (this.folds[example] === candidate ? sum : sum + size),
      0,
    )
  }

  /** Mean over the examples that a candidate is fitted to; 0 for those held out. */
  #weights(): Float32Array {
    const numExamples = this.folds.length
    const weights = new Float32Array(this.numCandidates * numExamples)
    for (let candidate = 0; candidate < this.numCandidates; candidate++) {
      const fitted = this.#fittedSize(candidate)
      for (const [example, fold] of this.folds.entries()) {
        weights[candidate * numExamples + example] = fold === candidate ? 0 : 1 / fitted
      }
    }
    return weights
  }

  /** Each candidate's own fold, every example counting 1. */
  #foldWeights(): Float32Array {
    const numExamples = this.folds.length
    const weights = new Float32Array(this.numCandidates * numExamples)
    for (const [example, fold] of this.folds.entries()) weights[fold * numExamples + example] = 1
    return weights
  }

  /** From the gradients of each fold's summed loss, those of each candidate's mean over the others. */
  #combineFolds(gradient: Float32Array): Float32Array {
    const numParts = this.options.hasLogScale ? 2 : 1
    const combined = new Float32Array(gradient.length)
    for (let candidate = 0; candidate < this.#numFolds; candidate++) {
      const fitted = this.#fittedSize(candidate)
      for (let fold = 0; fold < this.#numFolds; fold++) {
        if (fold === candidate) continue
        for (let part = 0; part < numParts; part++) {
          const to = (part * this.#numFolds + candidate) * this.#size
          const from = (part * this.#numFolds + fold) * this.#size
          for (let i = 0; i < this.#size; i++) combined[to + i]! += gradient[from + i]! / fitted
        }
      }
    }
    return combined
  }

  #mean(values: Float32Array): Float32Array {
    const own = Array.from({ length: this.#numFolds }, (_, fold) => this.#valuesOf(fold, values))
    return meanCandidate(own)
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
