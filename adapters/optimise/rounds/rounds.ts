import { preferenceMargins, preferenceWeights } from '../../objective/preference.ts'
import {
  identityRotation,
  pairsPerLayer,
  type Geometry,
  type Rotation,
} from '../../rotation/rotation.ts'
import { startAdam, stepAdam, type AdamState } from '../gradient/adam.ts'
import { countFolds, stratifiedFolds } from '../gradient/folds.ts'
import type { GradientAnswer, GradientQuery } from '../gradient/gradient.ts'
import { meanCandidate } from '../gradient/mean.ts'
import { toRotation } from '../gradient/values.ts'
import { checkRoundOptions, type RoundOptions } from './options.ts'
import { selectTexts } from './select.ts'

export type RoundSpec = {
  readonly geometry: Geometry
  readonly numExamples: number
  /** Group of each example; a group stays in one fold. By default each example is its own group. */
  readonly groups?: readonly number[]
  /** A safe integer; decides the folds. */
  readonly seed: number
  readonly options: RoundOptions
}

/** One text to generate. */
export type Draw = {
  /** Index of the rotation in the query that generates it. */
  readonly candidate: number
  readonly example: number
  /** From 0; distinguishes the texts of one candidate and example, and may serve as the seed. */
  readonly sample: number
}

/** The next query: generate and score texts, or differentiate the loss of the kept texts. */
export type RoundQuery =
  | {
      readonly kind: 'draw'
      readonly round: number
      readonly rotations: readonly Rotation[]
      readonly draws: readonly Draw[]
    }
  | { readonly kind: 'fit'; readonly step: number; readonly query: GradientQuery }

/** Scores of the texts of a round. */
export type RoundScores = {
  /** Mean score of the texts for fitting; null after the last round, which has none. */
  readonly drawnScore: number | null
  /** Mean score of the examples, each under the candidate that is not fitted to it. */
  readonly heldOutScore: number
  /** Sums of the held-out scores over each fold's examples, [folds] */
  readonly foldScores: readonly number[]
}

/** A text that the round fits. */
type Kept = {
  readonly example: number
  /**
   * The candidate that generated the text and is fitted to it. Null in the first round, in which the
   * base model generates the texts and every candidate outside the example's fold is fitted to them.
   */
  readonly candidate: number | null
}

/** The kept texts of a round, and the progress of their fit. */
export type RoundFitState = {
  readonly kept: readonly Kept[]
  /** Number of steps so far in this round. */
  readonly numSteps: number
  /** log P of the kept texts at the start of the round, [candidates, texts] */
  readonly reference: Float32Array
  /** log P of the kept texts in the last answer, [candidates, texts] */
  readonly logProbs: Float32Array
}

/** The state of a search: a pure function of the spec and the answers so far. */
export type RoundState = {
  /** Scores of the candidates after 0, 1, 2, … rounds. */
  readonly history: readonly RoundScores[]
  /** Null if the next query generates texts. */
  readonly fit: RoundFitState | null
  /** The candidates and Adam's moments, [folds, angles] */
  readonly adam: AdamState
  /** The mean of the candidates after the round with the highest held-out score. */
  readonly best: Float32Array
  readonly bestRound: number
  /** Each fold's candidate after its round with the highest held-out score on the other folds. */
  readonly foldBest: Float32Array
  readonly foldBestRounds: readonly number[]
}

/**
 * Fits a rotation to a grader's scores, in rounds. A round generates several texts for each prompt,
 * grades them, keeps the best one (and the worst, for pairs) and fits the kept texts by gradient. Each
 * fold has one candidate, which generates the texts of the other folds' prompts and is fitted to them.
 * The scores of its own fold's prompts decide after how many rounds to stop. The result is the mean of
 * the candidates.
 *
 * With `best` this is RAFT, without a share of older texts. With `pairs` it is iterative DPO, with the
 * candidate at the start of the round as the reference.
 * Sources: Dong et al. 2023, arXiv:2304.06767; Xu et al. 2023, arXiv:2312.16682
 */
export class RoundSearch {
  readonly options: RoundOptions
  /** Fold of each example. */
  readonly folds: readonly number[]
  readonly #geometry: Geometry
  readonly #numFolds: number

  /** @throws {RangeError} an option is invalid, or there are too few examples */
  constructor({ geometry, numExamples, groups, seed, options }: RoundSpec) {
    checkRoundOptions(options)
    this.options = options
    this.#geometry = geometry
    const examples = Array.from({ length: numExamples }, (_, example) => example)
    this.#numFolds = countFolds(groups ?? examples, options.numFolds)
    this.folds = stratifiedFolds(
      new Array<number>(numExamples).fill(0),
      this.#numFolds,
      seed,
      groups,
    )
  }

  get numCandidates(): number {
    return this.#numFolds
  }

  /** Length of one candidate's angles. */
  get #size(): number {
    return this.#geometry.numLayers * pairsPerLayer(this.#geometry)
  }

  start(): RoundState {
    return {
      history: [],
      fit: null,
      adam: startAdam(this.#numFolds * this.#size),
      best: new Float32Array(this.#size),
      bestRound: 0,
      foldBest: new Float32Array(this.#numFolds * this.#size),
      foldBestRounds: new Array<number>(this.#numFolds).fill(0),
    }
  }

  /** @returns the next query, or null if the search is done or no two texts of a prompt differ in score */
  ask(state: RoundState): RoundQuery | null {
    const { history, fit, adam } = state
    if (fit !== null) {
      if (fit.kept.length === 0) return null
      return {
        kind: 'fit',
        step: fit.numSteps,
        query: {
          numCandidates: this.#numFolds,
          layers: Array.from({ length: this.#geometry.numLayers }, (_, layer) => layer),
          hasLogScale: false,
          values: adam.values,
          weights: this.#weights(fit),
          examples: null,
          skipsUnweighted: true,
        },
      }
    }
    const round = history.length
    if (round > this.options.numRounds) return null
    const rotations =
      round === 0
        ? [identityRotation(this.#geometry)]
        : this.#candidates(adam.values).map((values) => this.#toRotation(values))
    return { kind: 'draw', round, rotations, draws: this.#draws(round) }
  }

  /**
   * @param scores one per draw of the query, in its order
   * @returns the next state, and the indices of the kept draws; their texts, in that order, are the texts
   * of the following `fit` queries
   * @throws {RangeError} another number of scores, or one is not finite
   */
  tellScores(
    state: RoundState,
    scores: readonly number[],
  ): { readonly state: RoundState; readonly kept: readonly number[] } {
    const round = state.history.length
    const draws = this.#draws(round)
    if (scores.length !== draws.length)
      throw new RangeError(`${scores.length} scores for ${draws.length} draws`)
    if (!scores.every(Number.isFinite)) throw new RangeError('a score is not finite')
    const graded = draws.map(({ example, candidate }, place) => ({
      place,
      example,
      candidate: round === 0 ? null : candidate,
      group: example * this.#numFolds + candidate,
      score: scores[place]!,
    }))
    const heldOut = this.folds.map((fold, example) =>
      meanOf(
        graded
          .filter((text) => text.example === example && (text.candidate ?? fold) === fold)
          .map(({ score }) => score),
      ),
    )
    const foldScores = new Array<number>(this.#numFolds).fill(0)
    for (const [example, fold] of this.folds.entries()) foldScores[fold]! += heldOut[example]!
    const isLast = round === this.options.numRounds
    const fitted = isLast
      ? []
      : graded.filter(({ example, candidate }) => candidate !== this.folds[example])
    const kept = isLast ? [] : selectTexts(fitted, this.options.fit).map((place) => fitted[place]!)
    const told = this.#keepBest(state, {
      drawnScore: isLast ? null : meanOf(fitted.map(({ score }) => score)),
      heldOutScore: meanOf(heldOut),
      foldScores,
    })
    const none = new Float32Array(0)
    const fit: RoundFitState = {
      kept: kept.map(({ example, candidate }) => ({ example, candidate })),
      numSteps: 0,
      reference: none,
      logProbs: none,
    }
    return { state: { ...told, fit: isLast ? null : fit }, kept: kept.map(({ place }) => place) }
  }

  /**
   * @param answer to the `fit` query that `ask(state)` returned
   * @returns the next state
   * @throws {RangeError} the answer has another shape or is not finite
   */
  tellGradient(state: RoundState, { logProbs, gradient }: GradientAnswer): RoundState {
    const { fit } = state
    if (fit === null) throw new RangeError('the search has not asked for a gradient')
    if (logProbs.length !== this.#numFolds * fit.kept.length) {
      throw new RangeError(`the answer has ${logProbs.length} log probabilities`)
    }
    if (!gradient.every(Number.isFinite)) throw new RangeError('the gradient is not finite')
    const isFirst = fit.numSteps === 0
    // A round has new texts, so it starts with new moments.
    const before = isFirst
      ? { ...startAdam(gradient.length), values: state.adam.values }
      : state.adam
    const { learningRate } = this.options
    const adam = stepAdam(before, gradient, fit.numSteps, { learningRate, decay: 0 })
    const numSteps = fit.numSteps + 1
    const reference = isFirst ? logProbs : fit.reference
    if (numSteps === this.options.numSteps) return { ...state, adam, fit: null }
    // NaN marks a text of weight 0, which was not computed; it keeps its last log probability.
    const known = logProbs.map((value, i) =>
      Number.isNaN(value) ? (fit.logProbs[i] ?? NaN) : value,
    )
    return { ...state, adam, fit: { ...fit, numSteps, reference, logProbs: known } }
  }

  /** The mean of the candidates after the round with the highest held-out score. */
  best({ best, bestRound }: RoundState): Rotation {
    return bestRound === 0 ? identityRotation(this.#geometry) : this.#toRotation(best)
  }

  /**
   * One rotation per fold, for out-of-fold predictions: the candidate fitted to the other folds, after
   * the round with the highest held-out score on those folds.
   */
  foldRotations({ foldBest, foldBestRounds }: RoundState): Rotation[] {
    return this.#candidates(foldBest).map((values, fold) =>
      foldBestRounds[fold] === 0 ? identityRotation(this.#geometry) : this.#toRotation(values),
    )
  }

  /**
   * The texts of a round. For each example, every candidate fitted to it generates `numSamples` texts, and
   * the candidate of its own fold generates half as many, for the held-out score. In the first round the
   * base model generates all texts. After the last round there are only held-out texts.
   */
  #draws(round: number): Draw[] {
    const { numRounds, numSamples } = this.options
    const numHeldOut = Math.ceil(numSamples / 2)
    return this.folds.flatMap((fold, example) =>
      Array.from({ length: round === 0 ? 1 : this.#numFolds }, (_, candidate) => {
        const isHeldOut = round > 0 && candidate === fold
        const count = isHeldOut ? numHeldOut : round === numRounds ? 0 : numSamples
        return Array.from({ length: count }, (_, sample) => ({ candidate, example, sample }))
      }).flat(),
    )
  }

  /** Weights of the kept texts' log probabilities in the loss, [candidates, texts]. */
  #weights(fit: RoundFitState): Float32Array {
    const { kept } = fit
    const weights = new Float32Array(this.#numFolds * kept.length)
    for (let own = 0; own < this.#numFolds; own++) {
      const texts = kept.flatMap(({ example, candidate }, text) =>
        candidate === own || (candidate === null && this.folds[example] !== own) ? [text] : [],
      )
      const places = texts.map((text) => own * kept.length + text)
      const values =
        this.options.fit === 'best'
          ? places.map(() => 1 / places.length)
          : this.#pairWeights(fit, places)
      for (const [i, place] of places.entries()) weights[place] = values[i]!
    }
    return weights
  }

  /**
   * Weights of pairs. The margins come from the answer before, so that a step needs only one call; in the
   * first step they are 0.
   */
  #pairWeights(
    { numSteps, reference, logProbs }: RoundFitState,
    places: readonly number[],
  ): number[] {
    const { beta } = this.options
    const numPairs = places.length / 2
    const at = (values: Float32Array): number[] => places.map((place) => values[place]!)
    const margins =
      numSteps === 0
        ? new Array<number>(numPairs).fill(0)
        : preferenceMargins(at(logProbs), at(reference), beta)
    return preferenceWeights(margins, beta, new Array<number>(numPairs).fill(1 / numPairs))
  }

  #keepBest(state: RoundState, scores: RoundScores): RoundState {
    const round = state.history.length
    const { values } = state.adam
    const isBest = scores.heldOutScore > (state.history[state.bestRound]?.heldOutScore ?? -Infinity)
    const foldBest = state.foldBest.slice()
    const foldBestRounds = state.foldBestRounds.map((before, fold) => {
      const known = state.history[before]
      if (known !== undefined && othersScore(scores, fold) <= othersScore(known, fold))
        return before
      foldBest.set(this.#candidates(values)[fold]!, fold * this.#size)
      return round
    })
    return {
      ...state,
      history: [...state.history, scores],
      best: isBest ? meanCandidate(this.#candidates(values)) : state.best,
      bestRound: isBest ? round : state.bestRound,
      foldBest,
      foldBestRounds,
    }
  }

  #candidates(values: Float32Array): Float32Array[] {
    return Array.from({ length: this.#numFolds }, (_, candidate) =>
      values.slice(candidate * this.#size, (candidate + 1) * this.#size),
    )
  }

  #toRotation(values: Float32Array): Rotation {
    const layers = Array.from({ length: this.#geometry.numLayers }, (_, layer) => layer)
    return toRotation(this.#geometry, layers, values)
  }
}

/** Sum of the held-out scores of all folds but one. */
const othersScore = ({ foldScores }: RoundScores, fold: number): number =>
  foldScores.reduce((sum, score, other) => (other === fold ? sum : sum + score), 0)

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
