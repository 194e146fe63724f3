import {
  GradientSearch,
  isAstray,
  type GradientState,
} from '../../adapters/optimise/gradient/gradient.ts'
import { decodeGradientState, encodeGradientState } from '../../adapters/optimise/gradient/state.ts'
import type { Rotation } from '../../adapters/rotation/rotation.ts'
import type { GradientReport } from '../protocol/openai/job-report.ts'
import { differentiate } from './differentiate.ts'
import { trainingBatches } from './guard-folds.ts'
import type { JobSpec, PinnedModel, Trial } from './job-spec.ts'
import type { NewEvent } from './job-store.ts'
import { trainingTokens } from './objective.ts'
import { differentiatePairs } from './preference.ts'
import { readSearchState } from './search-state.ts'
import {
  asJobFailure,
  evaluationOf,
  message,
  withRunner,
  type StepContext,
  type Transition,
} from './step-context.ts'

/** The result of a search, and the trial that gave it. */
export type Found = {
  readonly rotation: Rotation
  readonly index: number
  readonly value: number
}

/** One step of gradient descent: ask, differentiate, tell. A crash repeats this step at most. */
export async function descend(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec } = context
  const search = searchOf(spec, pinned)
  const state = readSearchState(search, context.searchState, decodeGradientState)
  const query = search.ask(state)
  if (query === null) {
    return {
      state: { phase: 'reporting' },
      events: [
        message(
          `The search ${isAstray(state) ? 'ran astray' : 'is done'} after ` +
            `${state.history.length - 1} steps. Measuring what it found.`,
        ),
      ],
    }
  }
  const { answer, base } = await withRunner(context, async ({ client }) => {
    const evaluation = evaluationOf(context, pinned, client, spec.training)
    if (spec.beta == null) return { answer: await differentiate(evaluation, query), base: null }
    const known = state.history.length === 0 ? null : (context.state.baseLogProbs ?? null)
    return differentiatePairs(evaluation, query, spec.beta, known)
  })
  const next = search.tell(state, answer)
  // The first step is taken from the identity, whose losses are known by then.
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

/** The mean of the folds' rotations; null before a step was looked at. */
export function descended(
  context: StepContext,
  pinned: PinnedModel,
): (Found & { readonly gradient: GradientReport }) | null {
  const { spec } = context
  const search = searchOf(spec, pinned)
  const state = readSearchState(search, context.searchState, decodeGradientState)
  const last = state.history.at(-1)
  if (last === undefined) return null
  const numSteps = state.history.length - 1
  return {
    rotation: search.best(state),
    index: numSteps,
    value: -last.trainLoss,
    gradient: {
      n_steps: numSteps,
      learning_rate: search.options.learningRate,
      prompt_dropout: search.options.promptDropout,
      n_folds: search.numCandidates,
      held_out_loss: state.heldOutLoss,
      base_loss: state.history[0]!.trainLoss,
    },
  }
}

/** What the folds' fits are. */
export function foldRotations({ spec, searchState }: StepContext, pinned: PinnedModel): Rotation[] {
  const search = searchOf(spec, pinned)
  return search.foldRotations(readSearchState(search, searchState, decodeGradientState))
}

function searchOf(spec: JobSpec, pinned: PinnedModel): GradientSearch {
  const { gradient, training, groups, seed, objective } = spec
  if (gradient === null) throw new Error('a gradient job without its hyperparameters')
  try {
    return new GradientSearch({
      geometry: pinned.geometry,
      gold: training.gold,
      groups,
      seed,
      batches: trainingBatches(spec),
      options: { promptDropout: 0, ...gradient },
      ...(objective === 'target' ? { sizes: trainingTokens(pinned) } : {}),
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
