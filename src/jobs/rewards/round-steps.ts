import {
  RoundSearch,
  type RoundQuery,
  type RoundState,
} from '../../../adapters/optimise/rounds/rounds.ts'
import { NUM_ROUND_FOLDS } from '../../../adapters/optimise/rounds/options.ts'
import { decodeRoundState, encodeRoundState } from '../../../adapters/optimise/rounds/state.ts'
import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { DEFAULT_BETA } from '../../protocol/openai/objective.ts'
import type { RoundsReport } from '../../protocol/openai/text-report.ts'
import type { TargetDataset } from '../../protocol/runner-scoring.ts'
import { datasetKey } from '../../storage/blobs.ts'
import { sha256Hex } from '../../storage/digest.ts'
import { differentiate } from '../differentiate.ts'
import type { Found } from '../gradient-steps.ts'
import type { JobSpec, PinnedModel, StoredDataset, Trial } from '../job-spec.ts'
import type { NewEvent } from '../job-store.ts'
import { readSearchState } from '../search-state.ts'
import {
  asJobFailure,
  evaluationOf,
  message,
  toStored,
  withRunner,
  type StepContext,
  type Transition,
} from '../step-context.ts'
import { gradeWanted, readRewardSet } from './reward-rotations.ts'

type DrawQuery = RoundQuery & { readonly kind: 'draw' }
type FitQuery = RoundQuery & { readonly kind: 'fit' }

/**
 * One step of a search in rounds: draw and grade a round's texts, or one step of the fit to those that
 * were kept. The kept texts are stored before the state names them; a crash repeats this step at most,
 * with the same seeds.
 */
export async function advanceRounds(
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const search = searchOf(context.spec, pinned)
  const state = readSearchState(search, context.searchState, decodeRoundState)
  const query = search.ask(state)
  if (query === null) return finish(context.spec, state)
  return query.kind === 'draw'
    ? drawTexts(context, pinned, search, state, query)
    : fitTexts(context, pinned, search, state, query)
}

async function drawTexts(
  context: StepContext,
  pinned: PinnedModel,
  search: RoundSearch,
  state: RoundState,
  { round, rotations, draws }: DrawQuery,
): Promise<Transition> {
  const { spec } = context
  const set = await readRewardSet(context, spec.training)
  const wanted = draws.map(({ candidate, example, sample }) => ({
    rotation: candidate,
    prompt: example,
    // Draws below 1 are the report's.
    draw: 1 + round * search.options.numSamples + sample,
  }))
  const stored = rotations.map((rotation) => toStored(spec, pinned, rotation).rotation)
  const { texts, scores } = await gradeWanted(context, pinned, set, stored, wanted)
  const { state: next, kept } = search.tellScores(state, scores)
  const { drawnScore, heldOutScore } = next.history[round]!
  const trial: Trial = { round, index: round, z: [], value: heldOutScore }
  const transition = {
    trials: [trial],
    search: encodeRoundState(next),
    events: [roundEvent(spec, next, texts.length, kept.length)],
  }
  if (drawnScore === null || kept.length === 0) return { ...transition, state: {} }
  const roundTexts = await storeTexts(context, {
    examples: kept.map((place) => {
      const { ids, ended } = texts[place]!
      const { messages } = set.examples[draws[place]!.example]!
      return { messages: [...messages], target: { ids: [...ids], ended } }
    }),
  })
  return { ...transition, state: { roundTexts } }
}

async function storeTexts(
  { env, spec }: StepContext,
  dataset: TargetDataset,
): Promise<StoredDataset> {
  const bytes = new TextEncoder().encode(JSON.stringify(dataset))
  const blobKey = datasetKey(spec.projectId, spec.id, 'round')
  await env.BLOBS.put(blobKey, bytes)
  return { blobKey, digest: await sha256Hex(bytes), gold: dataset.examples.map(() => 0) }
}

async function fitTexts(
  context: StepContext,
  pinned: PinnedModel,
  search: RoundSearch,
  state: RoundState,
  { step, query }: FitQuery,
): Promise<Transition> {
  const { spec } = context
  const { roundTexts } = context.state
  if (roundTexts === undefined) throw new Error('a round without its texts')
  const answer = await withRunner(context, ({ client }) => {
    const evaluation = evaluationOf(context, pinned, client, roundTexts)
    const longestTarget = spec.generation?.max_tokens ?? null
    return differentiate({ ...evaluation, longestTarget }, query)
  })
  const next = search.tellGradient(state, answer)
  const round = state.history.length
  return {
    state: {},
    search: encodeRoundState(next),
    events: [
      message(
        `Round ${round} of ${search.options.numRounds}: step ${step + 1} of ` +
          `${search.options.numSteps} on ${roundTexts.gold.length} texts.`,
      ),
    ],
  }
}

/** What the rounds came to; null before the first texts are graded. */
export function foundInRounds(
  { spec, searchState }: StepContext,
  pinned: PinnedModel,
): (Found & { readonly rounds: RoundsReport }) | null {
  const search = searchOf(spec, pinned)
  const state = readSearchState(search, searchState, decodeRoundState)
  const chosen = state.history[state.bestRound]
  if (chosen === undefined) return null
  const { numRounds, numSamples, numSteps, learningRate } = search.options
  return {
    rotation: search.best(state),
    index: state.bestRound,
    value: chosen.heldOutScore,
    rounds: {
      n_rounds: numRounds,
      n_samples: numSamples,
      n_steps: numSteps,
      learning_rate: learningRate,
      n_folds: search.numCandidates,
      chosen_round: state.bestRound,
      scores: state.history.map(({ drawnScore, heldOutScore }) => ({
        drawn: drawnScore,
        held_out: heldOutScore,
      })),
    },
  }
}

/** What the folds' fits are: each after as many rounds as the other folds choose. */
export function foldsInRounds({ spec, searchState }: StepContext, pinned: PinnedModel): Rotation[] {
  const search = searchOf(spec, pinned)
  return search.foldRotations(readSearchState(search, searchState, decodeRoundState))
}

/** Texts of each prompt and rotation that a report on rounds is made of. */
export const countReportDraws = ({ rounds }: JobSpec): number =>
  rounds == null ? 1 : Math.ceil(rounds.numSamples / 2)

function searchOf(
  { rounds, training, groups, seed, optimiser, beta }: JobSpec,
  { geometry }: PinnedModel,
): RoundSearch {
  if (rounds == null) throw new Error('a search in rounds without its hyperparameters')
  const fit = optimiser === 'raft' ? 'best' : 'pairs'
  const numExamples = training.gold.length
  const options = { ...rounds, fit, beta: beta ?? DEFAULT_BETA, numFolds: NUM_ROUND_FOLDS } as const
  try {
    return new RoundSearch({ geometry, numExamples, groups, seed, options })
  } catch (error) {
    throw asJobFailure(error)
  }
}

function finish({ numTrials }: JobSpec, { history, bestRound }: RoundState): Transition {
  const isCut = history.length < numTrials
  const why = isCut ? 'the grader tells no text from another' : 'all rounds are done'
  return {
    state: { phase: 'reporting' },
    events: [
      message(
        `The search is over: ${why}. Held-out texts choose ${bestRound} rounds. ` +
          'Measuring what it found.',
        isCut ? 'warn' : 'info',
      ),
    ],
  }
}

function roundEvent(
  { numTrials }: JobSpec,
  { history, bestRound }: RoundState,
  numTexts: number,
  numKept: number,
): NewEvent {
  const index = history.length - 1
  const { drawnScore, heldOutScore } = history[index]!
  return {
    level: 'info',
    type: 'metrics',
    message:
      `After ${index} of ${numTrials - 1} rounds: ${numTexts} texts, held-out score ` +
      `${heldOutScore.toFixed(4)}, highest after ${bestRound}` +
      (drawnScore === null ? '' : `; ${numKept} texts are kept to be fitted`),
    data: {
      step: index + 1,
      trial: index,
      round: index,
      value: heldOutScore,
      best_value: history[bestRound]!.heldOutScore,
      total: numTrials,
      drawn_score: drawnScore,
      held_out_score: heldOutScore,
    },
  }
}
