import { NUM_FOLDS } from '../../../adapters/optimise/gradient/folds.ts'
import { identityRotation, type Rotation } from '../../../adapters/rotation/rotation.ts'
import type { PlainSearchName } from '../../protocol/openai/search-names.ts'
import { bestValue } from '../best-value.ts'
import { countGuardFolds, guardFolds } from '../guard-folds.ts'
import type { FoldTrial, PinnedModel, Trial } from '../job-spec.ts'
import type { NewEvent } from '../job-store.ts'
import { message, toStored } from '../step-context.ts'
import type { SearchKind, SearchResult, StepContext, Transition } from '../step.ts'
import { countFoldTrials, keepOptimisers, type FindOptimiser } from './kept-optimisers.ts'

/** The most candidates scored in one step, which a crash may lose. */
const MAX_ROUND_TRIALS = 8
/** The most candidates of one fold scored in one step. */
const MAX_FOLD_ROUND = 4

/** A search that asks an optimiser for candidates and tells it what each is worth. */
export const searchByValues = (
  findOptimiser: FindOptimiser,
): Omit<SearchKind, 'showHyperparameters'> => ({
  hyperparameters: ['n_trials'],
  datasetUse: 'score',
  maxFolds: NUM_FOLDS,
  foldSearch: {
    countTrials: countFoldTrials,
    stepFolds: (context, pinned) => stepFolds(findOptimiser, context, pinned),
  },
  settle: ({ n_trials: numTrials }, { objective }) => ({
    numTrials: numTrials ?? objective.defaults.numTrials,
  }),
  describeBudget: ({ numTrials }) => `${numTrials} trials`,
  stepSearch: (context, pinned) => stepSearch(findOptimiser, context, pinned),
  searchResult: (context, pinned) => searchResult(findOptimiser, context, pinned),
  outOfFoldRotations: (context, pinned) => outOfFoldRotations(findOptimiser, context, pinned),
})

/** A search by values whose optimiser needs only the geometry, the seed and the number of trials. */
export const plainSearch = (name: PlainSearchName): SearchKind => ({
  ...searchByValues(keepOptimisers((common) => ({ ...common, name }))),
  showHyperparameters: ({ numTrials }) => ({ optimizer: name, n_trials: numTrials }),
})

async function stepSearch(
  findOptimiser: FindOptimiser,
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec, trials } = context
  const optimiser = findOptimiser(context, pinned, null)
  const candidates = optimiser.ask(trials).slice(0, MAX_ROUND_TRIALS)
  if (candidates.length === 0) {
    return { state: { phase: 'guarding' }, events: [message(describeGuard(context))] }
  }
  const rotations = candidates.map((z) => toStored(spec, pinned, optimiser.toRotation(z)).rotation)
  const scores = await context.objective.measureRotations(context, pinned, spec.training, rotations)
  const round = (trials.at(-1)?.round ?? -1) + 1
  const newTrials = candidates.map((z, i): Trial => {
    const value = finiteValue(context, pinned, scores[i]!, () => true)
    return { round, index: trials.length + i, z, value }
  })
  const events: NewEvent[] = []
  let best = bestValue(trials)
  for (const { index, value } of newTrials) {
    best = value !== null && (best === null || value > best) ? value : best
    events.push(trialEvent({ round, index, value, best, total: spec.numTrials }))
  }
  return { state: {}, trials: newTrials, events }
}

/** A candidate's value; null if it is not finite: then the trial has failed. */
function finiteValue(
  { spec, objective }: StepContext,
  pinned: PinnedModel,
  scores: readonly (readonly number[])[],
  isSeen: (example: number) => boolean,
): number | null {
  const value = objective.valueOf(spec, pinned, scores, isSeen)
  return Number.isFinite(value) ? value : null
}

function trialEvent(trial: {
  readonly round: number
  readonly index: number
  readonly value: number | null
  readonly best: number | null
  readonly total: number
}): NewEvent {
  const { round, index, value, best, total } = trial
  const step = index + 1
  return {
    level: 'info',
    type: 'metrics',
    message: `Trial ${step}/${total}: value ${format(value)}, best ${format(best)}`,
    data: { step, trial: index, round, value, best_value: best, total },
  }
}

const format = (value: number | null) => (value === null ? 'failed' : value.toFixed(4))

const describeGuard = (context: StepContext): string =>
  `The search is done. Judging what it found by ${countGuardFolds(context)} searches of ` +
  `${countFoldTrials(context.spec)} trials, each without the examples of one fold.`

/**
 * Takes one step of all folds' searches, with one call to a runner. Each is the job's own search on
 * the examples of the other folds. The call scores its fold's examples too, and the search ignores
 * them.
 */
async function stepFolds(
  findOptimiser: FindOptimiser,
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec } = context
  const folds = guardFolds(context)
  const candidates = Array.from({ length: countGuardFolds(context) }, (_, fold) => {
    const optimiser = findOptimiser(context, pinned, fold)
    const ownTrials = trialsOf(context, fold)
    return optimiser
      .ask(ownTrials)
      .slice(0, MAX_FOLD_ROUND)
      .map((z, i) => ({ fold, index: ownTrials.length + i, z, rotation: optimiser.toRotation(z) }))
  }).flat()
  if (candidates.length === 0) {
    return {
      state: { phase: 'reporting' },
      events: [message('Measuring what the job and its folds have found.')],
    }
  }
  const rotations = candidates.map(({ rotation }) => toStored(spec, pinned, rotation).rotation)
  const scores = await context.objective.measureRotations(context, pinned, spec.training, rotations)
  const foldTrials = candidates.map(({ fold, index, z }, candidate): FoldTrial => {
    const isSeen = (example: number) => folds[example] !== fold
    return { fold, index, z, value: finiteValue(context, pinned, scores[candidate]!, isSeen) }
  })
  return { state: {}, foldTrials }
}

function searchResult(
  findOptimiser: FindOptimiser,
  context: StepContext,
  pinned: PinnedModel,
): SearchResult | null {
  const optimiser = findOptimiser(context, pinned, null)
  const best = optimiser.best(context.trials)
  if (best?.value == null) return null
  return { rotation: optimiser.toRotation(best.z), index: best.index, value: best.value }
}

function outOfFoldRotations(
  findOptimiser: FindOptimiser,
  context: StepContext,
  pinned: PinnedModel,
): Rotation[] {
  return Array.from({ length: countGuardFolds(context) }, (_, fold) => {
    const optimiser = findOptimiser(context, pinned, fold)
    const best = optimiser.best(trialsOf(context, fold))
    return best === null ? identityRotation(pinned.geometry) : optimiser.toRotation(best.z)
  })
}

const trialsOf = ({ foldTrials }: StepContext, fold: number): FoldTrial[] =>
  foldTrials.filter((trial) => trial.fold === fold)
