import { composeRotations, identityRotation, type Rotation } from '../../rotation/rotation.ts'
import {
  DEFAULT_GRADIENT_OPTIONS,
  GradientSearch,
  hasDiverged,
  type GradientAnswer,
  type GradientOptions,
  type GradientQuery,
  type GradientSpec,
  type GradientState,
} from '../gradient/gradient.ts'
import { meanCandidate } from '../gradient/mean.ts'
import { heldOutLosses, heldOutQuery } from './held-out.ts'
import { nextConfiguration, toConfiguration, type Configuration } from './space.ts'

export type AutoOptions = {
  /** The most configurations. */
  readonly numTrials: number
  /** Time budget of the search; it always fits the first configuration to its end. */
  readonly budgetMs: number
}

export type AutoSpec = Omit<GradientSpec, 'options'> & { readonly options: AutoOptions }

/** How a configuration ended: fitted to its end, abandoned because it lagged, or cut by the budget. */
export type TrialEnd = 'finished' | 'abandoned' | 'cut'

/** One configuration and its result. */
export type AutoTrial = {
  readonly z: readonly number[]
  readonly end: TrialEnd
  /** Held-out loss of its fit on whole prompts; if it diverged, the average over its steps. */
  readonly heldOutLoss: number
  readonly trainLoss: number
  /** Held-out loss of the identity. */
  readonly baseLoss: number
  readonly numSteps: number
  readonly spentMs: number
}

/** The candidates of one of the best configurations. */
export type AutoFit = {
  readonly trial: number
  /** [folds, values] */
  readonly candidates: Float32Array
}

/** A possible result of the search: the mean of some fits, at a strength. */
export type AutoChoice = {
  /** Indices into `AutoState.fits`. */
  readonly fits: readonly number[]
  readonly strength: number
  /** Held-out loss, summed over each fold's examples: [folds] */
  readonly foldLosses: readonly number[]
}

export type AutoState = {
  readonly trials: readonly AutoTrial[]
  /** Lowest held-out loss first. */
  readonly fits: readonly AutoFit[]
  /** The current configuration; null after the last one. */
  readonly current: {
    readonly z: readonly number[]
    readonly gradient: GradientState
    /** How its steps ended; null before they end. Once they have, the next query scores its fit. */
    readonly end: TrialEnd | null
    readonly spentMs: number
  } | null
  /** The choices scored so far. */
  readonly choices: readonly AutoChoice[]
  /** Time that all answers took; the search has no other clock. */
  readonly spentMs: number
}

/** The most fits in a mean. */
const MAX_FITS = 5
/** The fewest fits in a mean: with twenty examples the lowest loss is partly luck, and a mean does better. */
const LEAST_MIX = 3
/**
 * A fit joins the mean if its held-out loss exceeds the lowest by less than this share of the best
 * fit's gain over the base model, or by less than `MAX_LAG` nats if that gain is small.
 */
const MAX_LAG_SHARE = 0.5
const MAX_LAG = 0.1
const STRENGTHS: readonly number[] = [0.8, 1.25]
/** The most candidates in one call; the runner's limit is 32. */
const MAX_CANDIDATES = 30
/** Share of the budget reserved for toScore the choices. */
const CHOOSING_SHARE = 0.1
/** A new configuration begins only if this share of the mean time per configuration is left. */
const LEAST_SHARE = 0.6
/**
 * From this step on, a configuration is abandoned if it lags behind the best one. Earlier steps say
 * little, because with a high prompt dropout the loss falls late.
 */
const RACE_FROM_STEP = 16
/** A configuration lags below this share of the best one's gain, scaled to the same number of steps. */
const RACE_SHARE = 0.4

/**
 * Bayesian optimisation over the configurations of a gradient fit. A trial is a whole `GradientSearch`
 * with one configuration; its value is the held-out loss of its fit. The first trial has the default
 * configuration. A trial that lags is abandoned. At the end the search compares means of the best fits
 * (angles add), and then some strengths of the best means, by their held-out losses on the same folds.
 *
 * `ask` reads a state, and `tell` returns the next one; both are pure. The state holds the time spent,
 * which `tell` receives with each answer, so a search that resumes after a crash decides as before.
 */
export class AutoSearch {
  readonly options: AutoOptions
  readonly #spec: Omit<GradientSpec, 'options'>
  /** The search with the default configuration; all configurations have its folds. */
  readonly #first: GradientSearch
  /** The search of the current configuration. */
  #search: { readonly z: readonly number[]; readonly search: GradientSearch } | null = null

  /** @throws {RangeError} an option is invalid, or there are too few examples */
  constructor({ options, ...spec }: AutoSpec) {
    if (!Number.isSafeInteger(options.numTrials) || options.numTrials < 1) {
      throw new RangeError(`numTrials ${options.numTrials} is not a positive integer`)
    }
    if (!(options.budgetMs > 0))
      throw new RangeError(`budgetMs ${options.budgetMs} is not positive`)
    this.options = options
    this.#spec = spec
    this.#first = new GradientSearch(spec)
  }

  get numFolds(): number {
    return this.#first.numCandidates
  }

  start(): AutoState {
    const state = { trials: [], fits: [], current: null, choices: [], spentMs: 0 }
    return { ...state, current: this.#begin(state) }
  }

  /** The configuration at a trial's z. */
  configurationOf(z: readonly number[]): Configuration {
    return toConfiguration(z, this.#spec.geometry, DEFAULT_GRADIENT_OPTIONS)
  }

  /** @returns the next query, or null if the search is done */
  ask(state: AutoState): GradientQuery | null {
    if (state.current !== null) {
      const { z, gradient, end } = state.current
      const search = this.#searchOf(z)
      return end === null
        ? search.ask(gradient)
        : heldOutQuery(this.#spec.geometry, this.#first.folds, search.foldRotations(gradient))
    }
    const toScore = this.#choicesToScore(state).slice(0, this.#maxScored)
    if (toScore.length === 0) return null
    const folds = Array.from({ length: this.numFolds }, (_, fold) => fold)
    const rotations = toScore.flatMap((choice) =>
      folds.map((fold) => this.#mix(state, choice, fold)),
    )
    return heldOutQuery(this.#spec.geometry, this.#first.folds, rotations)
  }

  /**
   * @param answer to the query that `ask(before)` returned
   * @param elapsedMs time that the answer took
   * @returns the next state
   * @throws {RangeError} the answer has another shape or is not finite
   */
  tell(before: AutoState, answer: GradientAnswer, elapsedMs: number): AutoState {
    const state = { ...before, spentMs: before.spentMs + Math.max(0, elapsedMs) }
    if (state.current === null) return this.#tellScores(state, answer)
    const spentMs = state.current.spentMs + Math.max(0, elapsedMs)
    const current = { ...state.current, spentMs }
    if (current.end !== null) {
      const total = heldOutLosses(answer, this.#first.folds, 1)[0]!.reduce(
        (sum, loss) => sum + loss,
        0,
      )
      return this.#conclude(state, current, current.end, total / this.#first.folds.length)
    }
    const search = this.#searchOf(current.z)
    const gradient = search.tell(current.gradient, answer)
    const end = this.#endOf(state, search, gradient)
    if (end !== null && hasDiverged(gradient)) {
      return this.#conclude(state, { ...current, gradient }, end, gradient.heldOutLoss)
    }
    return { ...state, current: { ...current, gradient, end } }
  }

  /** Adds the current configuration as a trial, and begins the next one if there is time. */
  #conclude(
    state: AutoState,
    { z, gradient, spentMs }: AutoState['current'] & {},
    end: TrialEnd,
    heldOutLoss: number,
  ): AutoState {
    const { history } = gradient
    const search = this.#searchOf(z)
    const baseLoss = history[0]!.heldOutLoss
    const trial: AutoTrial = {
      z,
      end,
      heldOutLoss,
      trainLoss: history.at(-1)!.trainLoss,
      baseLoss,
      numSteps: history.length - 1,
      spentMs,
    }
    const trials = [...state.trials, trial]
    const own = hasDiverged(gradient) ? [] : [this.#keep(state.trials.length, search, gradient)]
    const fits = [...state.fits, ...own]
      .sort((a, b) => trials[a.trial]!.heldOutLoss - trials[b.trial]!.heldOutLoss)
      .slice(0, MAX_FITS)
    const next = { ...state, trials, fits, current: null }
    return { ...next, current: this.#hasTimeFor(next) ? this.#begin(next) : null }
  }

  /**
   * The rotation of the choice with the lowest held-out loss; before any choice is scored, that of the
   * best fit; without a fit, the identity.
   */
  best(state: AutoState): { readonly rotation: Rotation; readonly choice: AutoChoice | null } {
    const [first] = state.fits
    if (first === undefined) {
      return { rotation: identityRotation(this.#spec.geometry), choice: null }
    }
    const choice = this.#pick(state, null)
    return { rotation: this.#mix(state, choice, null), choice }
  }

  /**
   * One rotation per fold, which the guard judges: the candidate fitted to the other folds, under the
   * choice with the lowest held-out loss on the other folds.
   */
  foldRotations(state: AutoState): Rotation[] {
    return Array.from({ length: this.numFolds }, (_, fold) =>
      state.fits.length === 0
        ? identityRotation(this.#spec.geometry)
        : this.#mix(state, this.#pick(state, fold), fold),
    )
  }

  #keep(trial: number, search: GradientSearch, gradient: GradientState): AutoFit {
    const folds = Array.from({ length: this.numFolds }, (_, k) => search.foldValues(gradient, k))
    return { trial, candidates: Float32Array.from(folds.flatMap((values) => [...values])) }
  }

  #begin({ trials }: Pick<AutoState, 'trials'>): AutoState['current'] {
    const told = trials.map(({ z, heldOutLoss }) => ({ z, value: -heldOutLoss }))
    const z = nextConfiguration(told, this.#spec.seed)
    return { z, gradient: this.#searchOf(z).start(), end: null, spentMs: 0 }
  }

  #searchOf(z: readonly number[]): GradientSearch {
    if (this.#search === null || this.#search.z.join() !== z.join()) {
      const options: Partial<GradientOptions> = this.configurationOf(z)
      this.#search = { z, search: new GradientSearch({ ...this.#spec, options }) }
    }
    return this.#search.search
  }

  get #budgetMs(): number {
    return this.options.budgetMs * (1 - CHOOSING_SHARE)
  }

  #hasTimeFor({ trials, spentMs }: AutoState): boolean {
    if (trials.length >= this.options.numTrials) return false
    const mean = trials.reduce((sum, trial) => sum + trial.spentMs, 0) / trials.length
    return spentMs + LEAST_SHARE * mean <= this.#budgetMs
  }

  /** @returns null if the configuration goes on */
  #endOf(state: AutoState, search: GradientSearch, gradient: GradientState): TrialEnd | null {
    if (search.ask(gradient) === null) return 'finished'
    if (state.trials.length === 0) return null
    if (state.spentMs >= this.#budgetMs) return 'cut'
    return this.#lags(state, gradient) ? 'abandoned' : null
  }

  /**
   * Whether a configuration has gained much less than the best one, scaled to the same number of steps.
   * More steps seldom make up for it.
   */
  #lags({ trials }: AutoState, { history }: GradientState): boolean {
    const step = history.length - 1
    if (step < RACE_FROM_STEP) return false
    const base = history[0]!.heldOutLoss
    const best = trials.reduce((a, b) => (b.heldOutLoss < a.heldOutLoss ? b : a))
    const gained = base - Math.min(...history.map(({ heldOutLoss }) => heldOutLoss))
    // Most of a gain comes early.
    const progress = Math.sqrt(Math.min(1, step / Math.max(best.numSteps, RACE_FROM_STEP)))
    return gained < RACE_SHARE * progress * (base - best.heldOutLoss)
  }

  /** The choices to score next: means at strength 1; after them, other strengths of the best means. */
  #choicesToScore(state: AutoState): Omit<AutoChoice, 'foldLosses'>[] {
    const { choices } = state
    const numGoodFits = this.#countGoodFits(state)
    const isScored = (choice: { readonly fits: readonly number[]; readonly strength: number }) =>
      choices.some(
        ({ fits: own, strength }) =>
          strength === choice.strength && own.join() === choice.fits.join(),
      )
    const plain = mixesOf(numGoodFits)
      .map((mix) => ({ fits: mix, strength: 1 }))
      .filter((choice) => !isScored(choice))
    if (plain.length > 0) return plain
    const chosen = new Map<string, readonly number[]>()
    for (let fold = -1; fold < this.numFolds && numGoodFits > 0; fold++) {
      const { fits: mix } = bestOf(plainOf(choices), fold < 0 ? null : fold)!
      chosen.set(mix.join(), mix)
    }
    return [...chosen.values()]
      .flatMap((mix) => STRENGTHS.map((strength) => ({ fits: mix, strength })))
      .filter((choice) => !isScored(choice))
  }

  /** Number of fits that are good enough to be in a mean; the best ones come first. */
  #countGoodFits({ fits, trials }: AutoState): number {
    const [best] = fits
    if (best === undefined) return 0
    const { baseLoss, heldOutLoss: lowest } = trials[best.trial]!
    const lag = Math.max(MAX_LAG, MAX_LAG_SHARE * (baseLoss - lowest))
    return fits.filter(({ trial }) => trials[trial]!.heldOutLoss <= lowest + lag).length
  }

  /** The most choices that one call scores. */
  get #maxScored(): number {
    return Math.max(1, Math.floor(MAX_CANDIDATES / this.numFolds))
  }

  #tellScores(state: AutoState, answer: GradientAnswer): AutoState {
    const toScore = this.#choicesToScore(state).slice(0, this.#maxScored)
    const losses = heldOutLosses(answer, this.#first.folds, toScore.length)
    const scored = toScore.map((choice, i): AutoChoice => ({ ...choice, foldLosses: losses[i]! }))
    return { ...state, choices: [...state.choices, ...scored] }
  }

  /** The choice with the lowest held-out loss. @param fold the fold whose losses it ignores, or null */
  #pick({ choices }: AutoState, fold: number | null): Omit<AutoChoice, 'foldLosses'> & AutoChoice {
    const mix = bestOf(plainOf(choices), fold)
    if (mix === null) return { fits: [0], strength: 1, foldLosses: [] }
    const own = choices.filter(({ fits }) => fits.join() === mix.fits.join())
    return bestOf(own, fold) ?? mix
  }

  #mix(
    { fits, trials }: AutoState,
    { fits: places, strength }: Omit<AutoChoice, 'foldLosses'>,
    fold: number | null,
  ): Rotation {
    const { geometry } = this.#spec
    const terms = places.map((place) => {
      const { trial, candidates } = fits[place]!
      const size = candidates.length / this.numFolds
      const own = Array.from({ length: this.numFolds }, (_, k) =>
        candidates.slice(k * size, (k + 1) * size),
      )
      const values = fold === null ? meanCandidate(own) : own[fold]!
      const rotation = this.#searchOf(trials[trial]!.z).toRotation(values)
      return { rotation, weight: strength / places.length }
    })
    return composeRotations(geometry, terms)
  }
}

/** Indices of the first three, four, … fits; of all fits if there are at most three. */
function mixesOf(numFits: number): number[][] {
  const places = Array.from({ length: numFits }, (_, place) => place)
  const least = Math.min(LEAST_MIX, numFits)
  return places.slice(least - 1).map((_, i) => places.slice(0, least + i))
}

const plainOf = (choices: readonly AutoChoice[]): AutoChoice[] =>
  choices.filter(({ strength }) => strength === 1)

/** The choice with the lowest held-out loss, on a tie the earliest. @param fold to ignore, or null */
function bestOf(choices: readonly AutoChoice[], fold: number | null): AutoChoice | null {
  const lossOf = ({ foldLosses }: AutoChoice): number =>
    foldLosses.reduce((sum, loss, other) => (other === fold ? sum : sum + loss), 0)
  let best: AutoChoice | null = null
  for (const choice of choices) {
    if (best === null || lossOf(choice) < lossOf(best)) best = choice
  }
  return best
}
