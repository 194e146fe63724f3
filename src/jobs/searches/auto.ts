import { AutoSearch, type AutoState } from '../../../adapters/optimise/auto/auto.ts'
import { NUM_FOLDS } from '../../../adapters/optimise/gradient/folds.ts'
import { decodeAutoState, encodeAutoState } from '../../../adapters/optimise/auto/state.ts'
import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { differentiate } from '../differentiate.ts'
import type { JobSpec, PinnedModel, Trial } from '../job-spec.ts'
import type { NewEvent } from '../job-store.ts'
import { readSearchState } from './search-state.ts'
import { asJobFailure, evaluationOf, message, withRunner } from '../step-context.ts'
import type { SearchKind, SearchResult, StepContext, Transition } from '../step.ts'

/** The most configurations that `auto` tries. Its time budget usually ends it long before. */
const DEFAULT_NUM_CONFIGURATIONS = 32
const DEFAULT_BUDGET_SECONDS = 40

/** Fits many configurations by gradient descent, within a time budget. */
export const AUTO: SearchKind = {
  hyperparameters: ['budget_seconds', 'n_trials'],
  datasetUse: 'gradient',
  maxFolds: NUM_FOLDS,
  foldSearch: null,
  settle: ({ n_trials: numTrials, budget_seconds: budgetSeconds }) => ({
    // The first trial measures the base model, before any configuration.
    numTrials: 1 + (numTrials ?? DEFAULT_NUM_CONFIGURATIONS),
    auto: { budgetSeconds: budgetSeconds ?? DEFAULT_BUDGET_SECONDS },
  }),
  showHyperparameters: (spec) => ({
    optimizer: 'auto',
    n_trials: spec.numTrials - 1,
    budget_seconds: budgetOf(spec),
  }),
  describeBudget: (spec) =>
    `at most ${spec.numTrials - 1} configurations in about ${budgetOf(spec)} s`,
  budgetMs: (spec) => budgetOf(spec) * 1000,
  stepSearch,
  searchResult,
  outOfFoldRotations,
}

function budgetOf({ auto }: JobSpec): number {
  if (auto == null) throw new Error('this job by "auto" has no budget')
  return auto.budgetSeconds
}

/**
 * Makes one call of the search: ask, differentiate, tell. The search is told how long the call took
 * and keeps that in its state, so that its clock is right after a crash, which repeats at most this
 * call.
 */
async function stepSearch(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, trials } = context
  const search = makeSearch(spec, pinned)
  const before = readSearchState(search, context.searchState, decodeAutoState)
  const query = search.ask(before)
  if (query === null) return finish(search, before)
  const startedAtMs = Date.now()
  const answer = await withRunner(context, ({ client }) =>
    differentiate(evaluationOf(context, pinned, client, spec.training), query),
  )
  const state = search.tell(before, answer, Date.now() - startedAtMs)
  const isFirstDone = before.trials.length === 0 && state.trials.length === 1
  // If no other configuration follows, the job's last version comes just as soon.
  const hasCheckpoint = isFirstDone && state.current !== null
  return {
    state: hasCheckpoint ? { phase: 'checkpointing' } : {},
    search: encodeAutoState(state),
    trials: newTrials(state, trials.length),
    events: describeProgress(search, before, state, spec),
  }
}

function searchResult(
  { spec, searchState }: StepContext,
  pinned: PinnedModel,
): SearchResult | null {
  const search = makeSearch(spec, pinned)
  const state = readSearchState(search, searchState, decodeAutoState)
  const [first] = state.trials
  if (first === undefined) return null
  const { rotation, choice } = search.best(state)
  const fits = (choice?.fits ?? []).map((place) => state.fits[place]!.trial)
  const lowest = [...state.trials].sort((a, b) => a.heldOutLoss - b.heldOutLoss)[0]!
  const losses = choice?.foldLosses ?? []
  const heldOutLoss =
    losses.length === 0
      ? lowest.heldOutLoss
      : losses.reduce((sum, loss) => sum + loss, 0) / spec.training.gold.length
  return {
    rotation,
    // Trial 0 measures the base model, so a configuration's trial is one more than its index.
    index: fits[0] === undefined ? 0 : fits[0] + 1,
    value: -heldOutLoss,
    report: {
      auto: {
        budget_seconds: budgetOf(spec),
        seconds_spent: state.spentMs / 1000,
        configurations: state.trials.map((trial) => {
          const { learningRate, layers, decay, hasLogScale, promptDropout } =
            search.configurationOf(trial.z)
          return {
            end: trial.end,
            learning_rate: learningRate,
            layers: layers ?? ([0, pinned.geometry.numLayers - 1] as const),
            decay,
            has_scale: hasLogScale,
            prompt_dropout: promptDropout,
            n_steps: trial.numSteps,
            held_out_loss: trial.heldOutLoss,
            seconds: trial.spentMs / 1000,
          }
        }),
        chosen: fits.map((trial) => trial + 1),
        strength: choice?.strength ?? 0,
        held_out_loss: heldOutLoss,
        base_loss: first.baseLoss,
      },
    },
  }
}

function outOfFoldRotations({ spec, searchState }: StepContext, pinned: PinnedModel): Rotation[] {
  const search = makeSearch(spec, pinned)
  return search.foldRotations(readSearchState(search, searchState, decodeAutoState))
}

function makeSearch(spec: JobSpec, { geometry }: PinnedModel): AutoSearch {
  const { numTrials, training, groups, seed } = spec
  const options = { numTrials: numTrials - 1, budgetMs: budgetOf(spec) * 1000 }
  try {
    return new AutoSearch({ geometry, gold: training.gold, groups, seed, options })
  } catch (error) {
    throw asJobFailure(error)
  }
}

/**
 * The trials that are not stored yet: the base model's once it is measured, then one a
 * configuration.
 */
function newTrials(state: AutoState, numKnown: number): Trial[] {
  const base = state.trials[0]?.baseLoss ?? state.current?.gradient.history[0]?.trainLoss
  if (base === undefined) return []
  const all = [
    { z: [], value: -base },
    ...state.trials.map(({ z, heldOutLoss }) => ({ z, value: -heldOutLoss })),
  ]
  return all.slice(numKnown).map(({ z, value }, i) => {
    const index = numKnown + i
    return { round: index, index, z, value }
  })
}

function describeProgress(
  search: AutoSearch,
  before: AutoState,
  state: AutoState,
  { numTrials }: JobSpec,
): NewEvent[] {
  const ended = state.trials.length > before.trials.length ? state.trials.at(-1)! : null
  const gradient = ended === null ? state.current?.gradient : null
  const number = before.trials.length + 1
  if (gradient != null) {
    const step = gradient.history.length - 1
    const { trainLoss, heldOutLoss } = gradient.history[step]!
    return [
      {
        level: 'info',
        type: 'metrics',
        message:
          `Configuration ${number}, after ${step} steps: train loss ${trainLoss.toFixed(4)}, ` +
          `held-out loss ${heldOutLoss.toFixed(4)}`,
        data: { trial: number, step, train_loss: trainLoss, held_out_loss: heldOutLoss },
      },
    ]
  }
  if (ended === null) return []
  const { learningRate, layers, decay, hasLogScale, promptDropout } = search.configurationOf(
    ended.z,
  )
  const lowest = Math.min(...state.trials.map(({ heldOutLoss }) => heldOutLoss))
  const parts = [
    `rate ${learningRate.toFixed(3)}`,
    layers === null ? 'all layers' : `layers ${layers[0]}–${layers[1]}`,
    `decay ${decay.toFixed(2)}`,
    ...(hasLogScale ? ['scales'] : []),
    ...(promptDropout > 0 ? [`prompt dropout ${promptDropout.toFixed(2)}`] : []),
  ]
  return [
    {
      level: 'info',
      type: 'metrics',
      message:
        `Configuration ${number} (${parts.join(', ')}) was ${ended.end} after ${ended.numSteps} steps: ` +
        `held-out loss ${ended.heldOutLoss.toFixed(4)}, ` +
        `lowest ${lowest.toFixed(4)}`,
      data: {
        trial: number,
        step: ended.numSteps,
        round: number,
        value: -ended.heldOutLoss,
        best_value: -lowest,
        total: numTrials,
        train_loss: ended.trainLoss,
        held_out_loss: ended.heldOutLoss,
      },
    },
  ]
}

function finish(search: AutoSearch, state: AutoState): Transition {
  const { choice } = search.best(state)
  const seconds = (state.spentMs / 1000).toFixed(1)
  const ended =
    choice === null
      ? 'no configuration helps held-out examples'
      : `its folds choose ${choice.fits.length === 1 ? 'configuration' : 'the mean of configurations'} ` +
        `${choice.fits.map((place) => state.fits[place]!.trial + 1).join(', ')} at strength ${choice.strength}`
  return {
    state: { phase: 'reporting' },
    events: [
      message(
        `The search is done after ${state.trials.length} configurations and ${seconds} s; ` +
          `${ended}. Measuring what it found.`,
      ),
    ],
  }
}
