import { LOG_PROB_FLOOR } from '../../objective/label-log-probs.ts'
import {
  pairsPerLayer,
  type Geometry,
  type LayerRotation,
  type Rotation,
} from '../../rotation/rotation.ts'
import { startAdam, stepAdam, type AdamOptions, type AdamState } from './adam.ts'
import { stratifiedFolds } from './folds.ts'

export type GradientOptions = AdamOptions & {
  /** Steps at most; the folds choose how many of them are kept. */
  readonly numSteps: number
  readonly numFolds: number
  /** Steps without a lower held-out loss after which the search ends. */
  readonly patience: number
  /** First and last layer rotated, both included; null is every layer. */
  readonly layers: readonly [number, number] | null
  /** Whether log scales are fitted beside the angles. */
  readonly hasLogScale: boolean
}

export const DEFAULT_GRADIENT_OPTIONS: GradientOptions = {
  // The best of rates 0.01, 0.02, 0.03 and 0.1 over three sets (docs/decisions/0004-gradient.md).
  learningRate: 0.03,
  decay: 0,
  // Training loss is near zero by then, and held-out loss has turned.
  numSteps: 30,
  // Sixteen of twenty examples to learn from, and each held out once.
  numFolds: 5,
  patience: 8,
  layers: null,
  hasLogScale: false,
}

export type GradientSpec = {
  readonly geometry: Geometry
  /** Label of each example. */
  readonly gold: readonly number[]
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
}

/** What came of a query. */
export type GradientAnswer = {
  /** log P(right label), [candidates, examples] */
  readonly logProbs: Float32Array
  /** d loss / d values, as `values` */
  readonly gradient: Float32Array
}

export type GradientStep = {
  /** Mean −log P(right label) of all examples under the candidate that is fitted to all. */
  readonly trainLoss: number
  /** The same over examples, each under the candidate that was not fitted to it. */
  readonly heldOutLoss: number
}

/** Where the search stands; a pure function of the spec and the answers so far. */
export type GradientState = {
  /** Losses after 0, 1, 2, … steps. */
  readonly history: readonly GradientStep[]
  /** The candidates after as many steps as `history` is long. */
  readonly adam: AdamState
  /** Values of the candidate fitted to all examples, where held-out loss was lowest. */
  readonly best: Float32Array
  readonly bestStep: number
}

/**
 * Adam on a rotation's angles (and log scales). One candidate a fold is fitted to the other folds'
 * examples and one candidate to all, side by side in one call a step. The folds' held-out loss says
 * after how many steps the last one is to be taken: fits of twenty examples reach a training loss of
 * zero whether or not they learnt anything.
 *
 * Value-only ask and tell (`Optimiser`) has no place for gradients or for 0.6 MB of moments, so
 * this is an interface of its own: `ask` of a state, `tell` makes the next.
 */
export class GradientSearch {
  readonly options: GradientOptions
  readonly #geometry: Geometry
  readonly #layers: readonly number[]
  readonly #folds: readonly number[]
  readonly #numFolds: number

  /** @throws {RangeError} an option makes no sense for the geometry or the examples */
  constructor({ geometry, gold, seed, options = {} }: GradientSpec) {
    this.options = { ...DEFAULT_GRADIENT_OPTIONS, ...options }
    this.#geometry = geometry
    checkOptions(this.options, geometry)
    const [first, last] = this.options.layers ?? [0, geometry.numLayers - 1]
    this.#layers = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    this.#numFolds = Math.min(this.options.numFolds, gold.length)
    this.#folds = stratifiedFolds(gold, this.#numFolds, seed)
  }

  /** Candidates of a query: the folds', then the one of all examples. */
  get numCandidates(): number {
    return this.#numFolds + 1
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
    }
  }

  /** @returns null where the search is done */
  ask({ history, adam, bestStep }: GradientState): GradientQuery | null {
    const { numSteps, patience, hasLogScale } = this.options
    if (history.length > numSteps || history.length - 1 - bestStep >= patience) return null
    return {
      numCandidates: this.numCandidates,
      layers: this.#layers,
      hasLogScale,
      values: adam.values,
      weights: this.#weights(),
    }
  }

  /** @throws {RangeError} an answer of another shape, or one that is not finite */
  tell(state: GradientState, { logProbs, gradient }: GradientAnswer): GradientState {
    const numExamples = this.#folds.length
    if (logProbs.length !== this.numCandidates * numExamples) {
      throw new RangeError(`${logProbs.length} log probabilities`)
    }
    if (!gradient.every(Number.isFinite)) throw new RangeError('the gradient is not finite')
    const lossOf = (candidateOf: (example: number) => number): number =>
      this.#folds.reduce((sum, _, example) => {
        const logProb = logProbs[candidateOf(example) * numExamples + example]!
        return sum - Math.max(logProb, LOG_PROB_FLOOR)
      }, 0) / numExamples
    const step: GradientStep = {
      trainLoss: lossOf(() => this.#numFolds),
      heldOutLoss: lossOf((example) => this.#folds[example]!),
    }
    const numDone = state.history.length
    const lowest = state.history[state.bestStep]?.heldOutLoss ?? Infinity
    const isBest = step.heldOutLoss < lowest
    return {
      history: [...state.history, step],
      adam: stepAdam(state.adam, gradient, numDone, this.options),
      best: isBest ? this.#valuesOfAll(state.adam.values) : state.best,
      bestStep: isBest ? numDone : state.bestStep,
    }
  }

  /** The rotation fitted to all examples for as many steps as the folds chose. */
  best({ best }: GradientState): Rotation {
    const pairs = pairsPerLayer(this.#geometry)
    const layers = new Map<number, LayerRotation>()
    for (const [i, layer] of this.#layers.entries()) {
      const angles = best.slice(i * pairs, (i + 1) * pairs)
      const logScale = best.slice(this.#size + i * pairs, this.#size + (i + 1) * pairs)
      layers.set(layer, logScale.length === 0 ? { angles } : { angles, logScale })
    }
    return { geometry: this.#geometry, layers }
  }

  /** Mean over the examples that a candidate is fitted to; 0 for those held out. */
  #weights(): Float32Array {
    const numExamples = this.#folds.length
    const weights = new Float32Array(this.numCandidates * numExamples)
    for (let candidate = 0; candidate < this.numCandidates; candidate++) {
      const fitted = this.#folds.filter((fold) => fold !== candidate).length
      for (const [example, fold] of this.#folds.entries()) {
        weights[candidate * numExamples + example] = fold === candidate ? 0 : 1 / fitted
      }
    }
    return weights
  }

  #valuesOfAll(values: Float32Array): Float32Array {
    const size = this.#size
    const numParts = values.length / (this.numCandidates * size)
    const own = new Float32Array(numParts * size)
    for (let part = 0; part < numParts; part++) {
      const at = (part * this.numCandidates + this.#numFolds) * size
      own.set(values.subarray(at, at + size), part * size)
    }
    return own
  }
}

function checkOptions(options: GradientOptions, { numLayers }: Geometry): void {
  const { learningRate, decay, numSteps, patience, layers } = options
  if (!(learningRate > 0 && learningRate <= 1)) throw new RangeError(`rate ${learningRate}`)
  if (!(decay >= 0 && decay * learningRate < 1)) throw new RangeError(`decay ${decay}`)
  if (!Number.isInteger(numSteps) || numSteps < 1) throw new RangeError(`numSteps ${numSteps}`)
  if (!Number.isInteger(patience) || patience < 1) throw new RangeError(`patience ${patience}`)
  const [first, last] = layers ?? [0, numLayers - 1]
  if (!(Number.isInteger(first) && Number.isInteger(last) && first >= 0 && last < numLayers)) {
    throw new RangeError(`layers ${first} to ${last} of ${numLayers}`)
  }
  if (first > last) throw new RangeError(`layers ${first} to ${last}`)
}
