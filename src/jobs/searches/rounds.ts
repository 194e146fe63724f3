import {
  RoundSearch,
  type RoundQuery,
  type RoundState,
} from '../../../adapters/optimise/rounds/rounds.ts'
import { NUM_ROUND_FOLDS, type RoundFit } from '../../../adapters/optimise/rounds/options.ts'
import { decodeRoundState, encodeRoundState } from '../../../adapters/optimise/rounds/state.ts'
import type { RoundSearchName } from '../../protocol/openai/search-names.ts'
import { datasetKey } from '../../storage/blobs.ts'
import { differentiate } from '../differentiate.ts'
import { DEFAULT_BETA } from '../preference.ts'
import { storeDataset } from '../store-dataset.ts'
import type { JobSpec, PinnedModel, Trial } from '../job-spec.ts'
import type { NewEvent } from '../job-store.ts'
import { readSearchState } from './search-state.ts'
import { asJobFailure, evaluationOf, message, toStored, withRunner } from '../step-context.ts'
import type { SearchKind, SearchResult, StepContext, Transition } from '../step.ts'
import { gradeWanted, readRewardSet } from '../rewards/reward-rotations.ts'

/** docs/decisions/0018-reward-rounds.md says how these were chosen. */
const DEFAULT_NUM_ROUNDS = 4
const DEFAULT_NUM_SAMPLES = 6
const DEFAULT_NUM_STEPS = 3
const DEFAULT_LEARNING_RATE = 0.05

/** A search in rounds. Each round draws texts, keeps some of them by their grades and fits those. */
export const searchInRounds = (name: RoundSearchName, fit: RoundFit): SearchKind => ({
  hyperparameters: ['n_rounds', 'n_samples', 'n_steps', 'learning_rate'],
  datasetUse: 'gradient',
  maxFolds: NUM_ROUND_FOLDS,
  foldSearch: null,
  drawsTexts: true,
  drawsPairs: fit === 'pairs',
  settle(given) {
    const numRounds = given.n_rounds ?? DEFAULT_NUM_ROUNDS
    return {
      // The first trial measures the base model, before any round.
      numTrials: 1 + numRounds,
      rounds: {
        numRounds,
        numSamples: given.n_samples ?? DEFAULT_NUM_SAMPLES,
        numSteps: given.n_steps ?? DEFAULT_NUM_STEPS,
        learningRate: given.learning_rate ?? DEFAULT_LEARNING_RATE,
      },
    }
  },
  showHyperparameters(spec) {
    const { numRounds, numSamples, numSteps, learningRate } = roundsOf(spec)
    return {
      optimizer: name,
      n_rounds: numRounds,
      n_samples: numSamples,
      n_steps: numSteps,
      learning_rate: learningRate,
    }
  },
  describeBudget(spec) {
    const { numRounds, numSamples } = roundsOf(spec)
    return `${numRounds} rounds of ${numSamples} texts a prompt`
  },
  // A step stores the blob before the state names it, so it is deleted even if no state names it.
  blobKeys: (spec) => [roundTextsKey(spec)],
  countReportDraws: (spec) => Math.ceil(roundsOf(spec).numSamples / 2),
  stepSearch: (context, pinned) => stepSearch(makeSearch(fit, context, pinned), context, pinned),
  searchResult: (context, pinned) => searchResult(makeSearch(fit, context, pinned), context),
  outOfFoldRotations(context, pinned) {
    const search = makeSearch(fit, context, pinned)
    return search.foldRotations(readSearchState(search, context.searchState, decodeRoundState))
  },
})

function roundsOf({ rounds }: JobSpec): NonNullable<JobSpec['rounds']> {
  if (rounds == null) throw new Error('this job by rounds has no hyperparameters')
  return rounds
}

const roundTextsKey = ({ projectId, id }: JobSpec): string => datasetKey(projectId, id, 'round')

type DrawQuery = RoundQuery & { readonly kind: 'draw' }
type FitQuery = RoundQuery & { readonly kind: 'fit' }

/**
 * Takes one step of a search in rounds: it draws and grades a round's texts, or takes one step of
 * the fit to those that were kept. It stores the kept texts before the state names them. A crash
 * repeats at most this step, with the same seeds.
 */
async function stepSearch(
  search: RoundSearch,
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
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
    // The report has the draws below 1.
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
  const roundTexts = await storeDataset(context.env.BLOBS, roundTextsKey(spec), {
    examples: kept.map((place) => {
      const { ids, ended } = texts[place]!
      const { messages } = set.examples[draws[place]!.example]!
      return { messages: [...messages], target: { ids: [...ids], ended } }
    }),
  })
  return { ...transition, state: { roundTexts } }
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
  if (roundTexts === undefined) throw new Error('the texts of this round are not stored')
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

function searchResult(search: RoundSearch, { searchState }: StepContext): SearchResult | null {
  const state = readSearchState(search, searchState, decodeRoundState)
  const chosen = state.history[state.bestRound]
  if (chosen === undefined) return null
  const { numRounds, numSamples, numSteps, learningRate } = search.options
  return {
    rotation: search.best(state),
    index: state.bestRound,
    value: chosen.heldOutScore,
    report: {
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
    },
  }
}

function makeSearch(fit: RoundFit, { spec }: StepContext, { geometry }: PinnedModel): RoundSearch {
  const { training, groups, seed, beta } = spec
  const numExamples = training.gold.length
  const options = {
    ...roundsOf(spec),
    fit,
    beta: beta ?? DEFAULT_BETA,
    numFolds: NUM_ROUND_FOLDS,
  }
  try {
    return new RoundSearch({ geometry, numExamples, groups, seed, options })
  } catch (error) {
    throw asJobFailure(error)
  }
}

function finish({ numTrials }: JobSpec, { history, bestRound }: RoundState): Transition {
  const isCut = history.length < numTrials
  const why = isCut ? 'the grader scores all texts alike' : 'all rounds are done'
  return {
    state: { phase: 'reporting' },
    events: [
      message(
        `The search is over: ${why}. Held-out texts are best after ${bestRound} rounds. ` +
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
      (drawnScore === null ? '' : `; the next fit takes ${numKept} texts`),
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
