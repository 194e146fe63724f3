import {
  GradientSearch,
  hasDiverged,
  type GradientState,
} from '../../../adapters/optimise/gradient/gradient.ts'
import { NUM_FOLDS } from '../../../adapters/optimise/gradient/folds.ts'
import {
  decodeGradientState,
  encodeGradientState,
} from '../../../adapters/optimise/gradient/state.ts'
import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { trainingBatches } from '../guard-folds.ts'
import type { JobSpec, PinnedModel, Trial } from '../job-spec.ts'
import type { NewEvent } from '../job-store.ts'
import { readSearchState } from './search-state.ts'
import { asJobFailure, evaluationOf, message, withRunner } from '../step-context.ts'
import type { SearchKind, SearchResult, StepContext, Transition } from '../step.ts'

const DEFAULT_LEARNING_RATE = 0.05

/**
 * Makes one fit by gradient descent for each fold, on the examples of the other folds, and averages
 * them.
 */
export const GRADIENT: SearchKind = {
  hyperparameters: ['n_steps', 'learning_rate', 'prompt_dropout'],
  datasetUse: 'gradient',
  maxFolds: NUM_FOLDS,
  foldSearch: null,
  settle(given, { objective }) {
    const numSteps = given.n_steps ?? objective.defaults.numSteps
    const learningRate = given.learning_rate ?? DEFAULT_LEARNING_RATE
    const promptDropout = given.prompt_dropout ?? objective.defaults.promptDropout
    // The first trial measures the base model, before any step.
    return { numTrials: 1 + numSteps, gradient: { numSteps, learningRate, promptDropout } }
  },
  showHyperparameters({ gradient }) {
    if (gradient === null) throw new Error(NO_HYPERPARAMETERS)
    return {
      optimizer: 'gradient',
      n_steps: gradient.numSteps,
      learning_rate: gradient.learningRate,
      prompt_dropout: gradient.promptDropout ?? 0,
    }
  },
  describeBudget: ({ numTrials }) => `at most ${numTrials - 1} steps`,
  stepSearch,
  searchResult,
  outOfFoldRotations,
}

const NO_HYPERPARAMETERS = 'this job by "gradient" has no hyperparameters'

/**
 * Takes one step of gradient descent: ask, differentiate, tell. A crash repeats at most this step.
 */
async function stepSearch(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec } = context
  const search = makeSearch(context, pinned)
  const state = readSearchState(search, context.searchState, decodeGradientState)
  const query = search.ask(state)
  if (query === null) {
    return {
      state: { phase: 'reporting' },
      events: [
        message(
          `The search ${hasDiverged(state) ? 'diverged' : 'is done'} after ` +
            `${state.history.length - 1} steps. Measuring what it found.`,
        ),
      ],
    }
  }
  const { answer, base } = await withRunner(context, async ({ client }) => {
    const evaluation = evaluationOf(context, pinned, client, spec.training)
    const known = state.history.length === 0 ? null : (context.state.baseLogProbs ?? null)
    return context.objective.differentiate(evaluation, query, spec, known)
  })
  const next = search.tell(state, answer)
  // The first step starts at the identity. The history already has its losses, so there is no new
  // trial.
  const isKnown = next.history.length === state.history.length
  const index = next.history.length - 1
  const trial: Trial = { round: index, index, z: [], value: -next.history[index]!.trainLoss }
  return {
    state: base === null ? {} : { baseLogProbs: base },
    trials: isKnown ? [] : [trial],
    search: encodeGradientState(next),
    events: isKnown ? [] : [stepEvent(spec, next)],
  }
}

/** The mean of the folds' rotations; null before the first step has been measured. */
function searchResult(context: StepContext, pinned: PinnedModel): SearchResult | null {
  const search = makeSearch(context, pinned)
  const state = readSearchState(search, context.searchState, decodeGradientState)
  const last = state.history.at(-1)
  if (last === undefined) return null
  const numSteps = state.history.length - 1
  return {
    rotation: search.best(state),
    index: numSteps,
    value: -last.trainLoss,
    report: {
      gradient: {
        n_steps: numSteps,
        learning_rate: search.options.learningRate,
        prompt_dropout: search.options.promptDropout,
        n_folds: search.numCandidates,
        held_out_loss: state.heldOutLoss,
        base_loss: state.history[0]!.trainLoss,
      },
    },
  }
}

function outOfFoldRotations(context: StepContext, pinned: PinnedModel): Rotation[] {
  const search = makeSearch(context, pinned)
  return search.foldRotations(readSearchState(search, context.searchState, decodeGradientState))
}

function makeSearch(context: StepContext, pinned: PinnedModel): GradientSearch {
  const { spec, objective } = context
  const { gradient, training, groups, seed } = spec
  const sizes = objective.exampleSizes?.(pinned)
  if (gradient === null) throw new Error(NO_HYPERPARAMETERS)
  try {
    return new GradientSearch({
      geometry: pinned.geometry,
      gold: training.gold,
      groups,
      seed,
      batches: trainingBatches(context),
      options: { promptDropout: 0, ...gradient },
      ...(sizes === undefined ? {} : { sizes }),
    })
  } catch (error) {
    throw asJobFailure(error)
  }
}

function stepEvent(spec: JobSpec, { history }: GradientState): NewEvent {
  const index = history.length - 1
  const { trainLoss, heldOutLoss } = history[index]!
  return {
    level: 'info',
    type: 'metrics',
    message:
      `After ${index} of ${spec.numTrials - 1} steps: train loss ${trainLoss.toFixed(4)}, ` +
      `held-out loss ${heldOutLoss.toFixed(4)}`,
    data: {
      step: index + 1,
      trial: index,
      round: index,
      value: -trainLoss,
      best_value: -Math.min(...history.map((step) => step.trainLoss)),
      total: spec.numTrials,
      train_loss: trainLoss,
      held_out_loss: heldOutLoss,
    },
  }
}
