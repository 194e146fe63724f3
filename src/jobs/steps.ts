import { advance } from './auto-steps.ts'
import { findDirections } from './directions.ts'
import { pushDataset } from './evaluate.ts'
import { descend } from './gradient-steps.ts'
import { isGradient } from './guard-folds.ts'
import { describeGuard } from './guard-steps.ts'
import type { JobSpec, PinnedModel, StoredDataset, Trial } from './job-spec.ts'
import type { NewEvent } from './job-store.ts'
import { measureRotations, valueOf } from './objective.ts'
import { isInRounds } from '../protocol/openai/optimisers.ts'
import { optimiserOf } from './optimiser-of.ts'
import { advanceRounds } from './rewards/round-steps.ts'
import { message, toStored, withRunner, type StepContext, type Transition } from './step-context.ts'

/** Candidates scored between two writes: what a crash can lose. */
const MAX_ROUND_TRIALS = 8

/** Pins what is served and gives the runner the examples. */
export async function prepare(context: StepContext): Promise<Transition> {
  const { spec } = context
  return withRunner(context, async (runner) => {
    const { client } = runner
    const { model } = runner.status
    const push = (dataset: StoredDataset, use: 'score' | 'gradient') =>
      pushDataset({ client, blobs: context.env.BLOBS, dataset, signal: context.signal }, use)
    // Prompts for a grader are sent as they are asked.
    const isPushed = spec.objective !== 'reward'
    const use = isGradient(spec) ? 'gradient' : 'score'
    const resident = isPushed ? await push(spec.training, use) : null
    // Told now, an over-long validation example does not cost the whole search first.
    const validation =
      isPushed && spec.validation !== null ? await push(spec.validation, 'score') : null
    const pinned: PinnedModel = {
      modelDigest: model.model_digest,
      buildDigest: model.build_digest,
      geometry: {
        numLayers: model.num_layers,
        numHeads: model.num_heads,
        headDim: model.head_dim,
      },
      promptTokens: resident?.prompt_tokens.total ?? 0,
      ...(resident?.target_tokens === undefined
        ? {}
        : {
            targetTokens: {
              training: resident.target_tokens,
              validation: validation?.target_tokens ?? [],
            },
          }),
    }
    return {
      state: {
        pinned,
        phase: 'searching',
        status: 'running',
        startedAtMs: context.state.startedAtMs ?? Date.now(),
      },
      events: [
        message(
          `Learning ${describeAnswers(spec)} from ${spec.training.gold.length} examples ` +
            `with ${spec.optimiser}, ${describeBudget(spec)}.`,
        ),
      ],
    }
  })
}

const describeAnswers = ({ objective, labels, grader }: JobSpec): string =>
  ({
    label: `${labels.length} labels`,
    target: 'texts',
    preference: 'which texts are preferred',
    reward: `what the grader "${grader?.type ?? ''}" likes`,
  })[objective]

function describeBudget({ optimiser, numTrials, auto, rounds }: JobSpec): string {
  if (rounds != null) return `${rounds.numRounds} rounds of ${rounds.numSamples} texts a prompt`
  if (optimiser === 'gradient') return `at most ${numTrials - 1} steps`
  if (optimiser !== 'auto') return `${numTrials} trials`
  return `at most ${numTrials - 1} configurations in about ${auto?.budgetSeconds ?? 0} s`
}

/** One round: ask, evaluate, tell. */
export async function search(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, trials } = context
  if (spec.optimiser === 'gradient') return descend(context, pinned)
  if (spec.optimiser === 'auto') return advance(context, pinned)
  if (isInRounds(spec.optimiser)) return advanceRounds(context, pinned)
  if (spec.subspace === 'gradient' && context.searchState === null) {
    return findDirections(context, pinned)
  }
  const optimiser = optimiserOf(context, pinned)
  const asked = optimiser.ask(trials).slice(0, MAX_ROUND_TRIALS)
  if (asked.length === 0) {
    return {
      state: { phase: 'guarding' },
      events: [message(describeGuard(spec))],
    }
  }
  const rotations = asked.map((z) => toStored(spec, pinned, optimiser.toRotation(z)).rotation)
  const scores = await measureRotations(context, pinned, spec.training, rotations)
  const round = (trials.at(-1)?.round ?? -1) + 1
  const told = asked.map((z, i): Trial => {
    const value = valueOf(spec, pinned, scores[i]!)
    return { round, index: trials.length + i, z, value }
  })
  const events: NewEvent[] = []
  let best = bestValue(trials)
  for (const { index, value } of told) {
    best = value !== null && (best === null || value > best) ? value : best
    events.push(trialEvent({ round, index, value, best, total: spec.numTrials }))
  }
  return { state: {}, trials: told, events }
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

export function bestValue(trials: readonly Trial[]): number | null {
  return trials.reduce<number | null>(
    (best, { value }) => (value !== null && (best === null || value > best) ? value : best),
    null,
  )
}
