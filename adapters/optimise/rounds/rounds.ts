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
  /** Equal for examples that stay in one fold; none by default. */
  readonly groups?: readonly number[]
  /** A safe integer; decides the folds. */
  readonly seed: number
  readonly options: RoundOptions
}

/** One text that is wanted. */
export type Draw = {
  /** Which of the query's rotations it is drawn from. */
  readonly candidate: number
  readonly example: number
  /** From 0; texts of one number may be drawn from one seed. */
  readonly sample: number
}

/** What is wanted next: texts and their scores, or a gradient on the texts that were kept. */
export type RoundQuery =
  | {
      readonly kind: 'draw'
      readonly round: number
      readonly rotations: readonly Rotation[]
      readonly draws: readonly Draw[]
    }
  | { readonly kind: 'fit'; readonly step: number; readonly query: GradientQuery }

/** What the texts of a round came to. */
export type RoundScores = {
  /** Mean score of the texts to choose from; null after the last round, which draws none. */
  readonly drawnScore: number | null
  /** Of examples under the candidate that was not fitted to them, mean. */
  readonly heldOutScore: number
  /** What each fold adds to it, summed over its examples: [folds] */
  readonly foldScores: readonly number[]
}

/** A text that the round is fitted to. */
type Kept = {
  readonly example: number
  /** The candidate fitted to it; null, as all were one, is each that the example's fold allows. */
  readonly candidate: number | null
}

/** The texts of a round, and how far they are fitted. */
export type RoundFitState = {
  readonly kept: readonly Kept[]
  readonly numSteps: number
  /** log P of the kept texts when the round began, and at the last answer: [candidates, texts]. */
  readonly reference: Float32Array
  readonly logProbs: Float32Array
}

/** Where the search stands; a pure function of the spec and the answers so far. */
export type RoundState = {
  /** Of the candidates after 0, 1, 2, … rounds. */
  readonly history: readonly RoundScores[]
  /** Null where texts are wanted. */
  readonly fit: RoundFitState | null
  /** Each fold's candidate: [folds, angles] */
  readonly adam: AdamState
  /** What the candidates came to together where held-out texts scored highest. */
  readonly best: Float32Array
  readonly bestRound: number
  /** Of each fold's candidate, its values where the other folds' held-out texts scored highest. */
  readonly foldBest: Float32Array
  readonly foldBestRounds: readonly number[]
}

/**
 * Fits a rotation to what a grader likes of the model's own texts, in rounds: draw several texts of
 * each prompt, grade them, keep the best (and the worst, to tell it from), fit those by gradient, and
 * draw again from what was fitted. One candidate a fold is fitted to the other folds' prompts alone and
 * draws their texts itself; what its own fold's prompts then score says after how many rounds to stop,
 * and the result is the candidates' mean.
 *
 * With the best alone this is RAFT, without a share of older texts; with best and worst as pairs it is
 * DPO made iterative, the reference being the candidate at the round's beginning.
 * Sources: Dong et al. 2023, arXiv:2304.06767; Xu et al. 2023, arXiv:2312.16682
 */
export class RoundSearch {
  readonly options: RoundOptions
  /** Fold of each example. */
  readonly folds: readonly number[]
  readonly #geometry: Geometry
  readonly #numFolds: number

  /** @throws {RangeError} an option makes no sense, or too few examples */
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

  /** @returns null where the search is done, or no text could be told from another */
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
   * Takes the scores of the texts that were asked for.
   * @param scores one a draw, in the order of asking
   * @returns the next state, and the draws whose texts it is to be fitted to: the texts of the queries
   * that follow, in that order
   * @throws {RangeError} other than as many, or one that is not finite
   */
  tellScores(
    state: RoundState,
    scores: readonly number[],
  ): { readonly state: RoundState; readonly kept: readonly number[] } {
    const round = state.history.length
    const draws = this.#draws(round)
    if (scores.length !== draws.length) throw new RangeError(`${scores.length} scores`)
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

  /** Takes the gradient that was asked for. @throws {RangeError} of another shape, or not finite */
  tellGradient(state: RoundState, { logProbs, gradient }: GradientAnswer): RoundState {
    const { fit } = state
    if (fit === null) throw new RangeError('no gradient was asked for')
    if (logProbs.length !== this.#numFolds * fit.kept.length) {
      throw new RangeError(`${logProbs.length} log probabilities`)
    }
    if (!gradient.every(Number.isFinite)) throw new RangeError('the gradient is not finite')
    const isFirst = fit.numSteps === 0
    // Moments are of the texts that they were made on, and a round has new ones.
    const before = isFirst
      ? { ...startAdam(gradient.length), values: state.adam.values }
      : state.adam
    const { learningRate } = this.options
    const adam = stepAdam(before, gradient, fit.numSteps, { learningRate, decay: 0 })
    const numSteps = fit.numSteps + 1
    const reference = isFirst ? logProbs : fit.reference
    if (numSteps === this.options.numSteps) return { ...state, adam, fit: null }
    // What has come to weigh nothing was not computed, and stays told apart.
    const known = logProbs.map((value, i) =>
      Number.isNaN(value) ? (fit.logProbs[i] ?? NaN) : value,
    )
    return { ...state, adam, fit: { ...fit, numSteps, reference, logProbs: known } }
  }

  /** The mean of the candidates after as many rounds as their held-out texts choose. */
  best({ best, bestRound }: RoundState): Rotation {
    return bestRound === 0 ? identityRotation(this.#geometry) : this.#toRotation(best)
  }

  /**
   * What the same search gives without each fold: the candidate fitted to the other folds' prompts,
   * after as many rounds as those folds' held-out texts choose.
   */
  foldRotations({ foldBest, foldBestRounds }: RoundState): Rotation[] {
    return this.#candidates(foldBest).map((values, fold) =>
      foldBestRounds[fold] === 0 ? identityRotation(this.#geometry) : this.#toRotation(values),
    )
  }

  /**
   * The texts of a round: of each example several from every candidate that is fitted to it, and half as
   * many, for judging, from its fold's own. At first all candidates are the base model, and after the
   * last round nothing is fitted.
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

  /** [candidates, texts]: what the texts' log probabilities count for. */
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
   * Of pairs by how far the step before found them told apart, so that a step is one call; at first no
   * pair is.
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

/** Held-out score of all folds but one; sums compare as means do. */
const othersScore = ({ foldScores }: RoundScores, fold: number): number =>
  foldScores.reduce((sum, score, other) => (other === fold ? sum : sum + score), 0)

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
