import { decodeAdapter } from '../../adapters/format/decode.ts'
import { encodeAdapter } from '../../adapters/format/encode.ts'
import { meanLogProb } from '../../adapters/objective/label-log-probs.ts'
import { createOptimiser, type Optimiser } from '../../adapters/optimise/optimiser.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import { publishVersion, type NewVersion } from '../db/versions.ts'
import { RunnerFault, RunnerRefusal } from '../dispatch/runner-client.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import type { Bindings } from '../env.ts'
import type { JobReport } from '../protocol/openai/fine-tuning.ts'
import { adapterKey, reportKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { forgetTask } from '../tasks/resolve.ts'
import { pushDataset, scoreRotations, type Evaluation } from './evaluate.ts'
import { BuildChanged, JobFailure } from './faults.ts'
import type { JobSpec, JobState, PinnedModel, StoredDataset, Trial } from './job-spec.ts'
import type { NewEvent } from './job-store.ts'
import { reportExamples } from './report.ts'

export type StepContext = {
  readonly env: Bindings
  readonly runners: RunnerPool
  readonly spec: JobSpec
  readonly state: JobState
  readonly trials: readonly Trial[]
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal
}

/** What a step changes; written in one transaction, or not at all. */
export type Transition = {
  readonly state: Partial<JobState>
  readonly events?: readonly NewEvent[]
  readonly trials?: readonly Trial[]
  readonly forgetTrials?: boolean
}

/** Candidates scored between two writes: what a crash can lose. */
const MAX_ROUND_TRIALS = 8

/** Pins what is served and gives the runner the examples. */
export async function prepare(context: StepContext): Promise<Transition> {
  const { spec } = context
  return withRunner(context, async (runner) => {
    const { client } = runner
    const { model } = runner.status
    const push = (dataset: StoredDataset) =>
      pushDataset({ client, blobs: context.env.BLOBS, dataset, signal: context.signal })
    const resident = await push(spec.training)
    // Told now, an over-long validation example does not cost the whole search first.
    if (spec.validation !== null) await push(spec.validation)
    const pinned: PinnedModel = {
      modelDigest: model.model_digest,
      buildDigest: model.build_digest,
      geometry: {
        numLayers: model.num_layers,
        numHeads: model.num_heads,
        headDim: model.head_dim,
      },
      promptTokens: resident.prompt_tokens.total,
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
          `Learning ${spec.labels.length} labels from ${spec.training.gold.length} examples ` +
            `with ${spec.optimiser}, ${spec.numTrials} trials.`,
        ),
      ],
    }
  })
}

/** One round: ask, evaluate, tell. */
export async function search(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, trials } = context
  const optimiser = optimiserOf(spec, pinned)
  const asked = optimiser.ask(trials).slice(0, MAX_ROUND_TRIALS)
  if (asked.length === 0) {
    return {
      state: { phase: 'reporting' },
      events: [message('The search is done; measuring what it found.')],
    }
  }
  const rotations = asked.map((z) => toStored(spec, pinned, optimiser.toRotation(z)).rotation)
  const scores = await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, spec.training), rotations),
  )
  const round = (trials.at(-1)?.round ?? -1) + 1
  const told = asked.map((z, i): Trial => {
    const value = meanLogProb(scores[i]!, spec.training.gold)
    return { round, index: trials.length + i, z, value: Number.isFinite(value) ? value : null }
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

/**
 * The adapter file of a rotation, and the rotation as that file holds it. Trials score the latter:
 * with weights and activations in a few bits, rounding angles to float16 moves a score by as much
 * as a round of the search does, and what is served must be what was chosen.
 */
function toStored(
  spec: JobSpec,
  pinned: PinnedModel,
  rotation: Rotation,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly rotation: Rotation } {
  const { modelDigest, geometry } = pinned
  const bytes = encodeAdapter({ modelDigest, scope: spec.scope, rotation, dtype: 'F16' })
  const decoded = decodeAdapter(bytes, geometry)
  if (!decoded.ok) throw new Error(`own adapter is unreadable: ${decoded.error.message}`)
  return { bytes, rotation: decoded.value.rotation }
}

/**
 * Measures the best adapter and stores it and its report. The blobs are there before the state says
 * so, and their names are their contents', so that a crash between the two repeats the step without
 * a trace.
 */
export async function report(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, trials, env } = context
  const optimiser = optimiserOf(spec, pinned)
  const best = optimiser.best(trials)
  if (best?.value == null) throw noGain('no trial could be scored')
  const { bytes, rotation: stored } = toStored(spec, pinned, optimiser.toRotation(best.z))
  const layers = touchedLayers(stored)
  if (layers.length === 0) throw noGain('no trial scored better than the base model')

  const identity = identityRotation(pinned.geometry)
  const scored = async (dataset: StoredDataset) => {
    const [base, adapter] = await withRunner(context, ({ client }) =>
      scoreRotations(evaluationOf(context, pinned, client, dataset), [identity, stored]),
    )
    return { gold: dataset.gold, base: base!, adapter: adapter! }
  }
  const training = await scored(spec.training)
  const validation = spec.validation === null ? null : await scored(spec.validation)
  const baseValue = meanLogProb(training.base, training.gold)
  const adapterValue = meanLogProb(training.adapter, training.gold)
  if (adapterValue <= baseValue) throw noGain('the best trial scores no better than the base model')

  const adapterDigest = await sha256Hex(bytes)
  const made: JobReport = {
    guard: 'none',
    job: spec.id,
    optimizer: spec.optimiser,
    n_trials: trials.length,
    seed: spec.seed,
    scope: spec.scope,
    labels: spec.labels,
    layers,
    adapter_digest: adapterDigest,
    model_digest: pinned.modelDigest,
    build_digest: pinned.buildDigest,
    best_value: best.value,
    best_trial: best.index,
    base_value: baseValue,
    adapter_value: adapterValue,
    seconds: (Date.now() - (context.state.startedAtMs ?? spec.createdAtMs)) / 1000,
    train: reportExamples(training, training.base),
    validation: validation === null ? null : reportExamples(validation, training.base),
  }
  const version = await describeVersion(spec, pinned, { adapterDigest, layers })
  await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  await env.BLOBS.put(version.reportKey, JSON.stringify(made))
  return { state: { phase: 'publishing', publication: { version, report: made } } }
}

const noGain = (why: string) =>
  new JobFailure(
    'no_gain',
    `Nothing was published: ${why}. The base model does as well on these examples.`,
  )

async function describeVersion(
  spec: JobSpec,
  pinned: PinnedModel,
  adapter: { readonly adapterDigest: string; readonly layers: readonly number[] },
): Promise<NewVersion> {
  const content = {
    model: spec.model,
    modelDigest: pinned.modelDigest,
    adapterDigest: adapter.adapterDigest,
    scope: spec.scope,
    layers: adapter.layers,
    instructions: spec.frame.instructions,
    position: spec.frame.position,
    labels: spec.labels,
    bias: null,
  }
  return {
    ...content,
    projectId: spec.projectId,
    task: spec.task,
    // The keys above are written in this order everywhere: it is the version's canonical form.
    digest: await sha256Hex(new TextEncoder().encode(JSON.stringify(content))),
    reportKey: reportKey(spec.projectId, spec.id),
    jobId: spec.id,
    createdAtMs: Date.now(),
  }
}

/** Adds the version, once however often this runs, and makes it live. */
export async function publish(
  context: StepContext,
  publication: NonNullable<JobState['publication']>,
): Promise<Transition> {
  const { spec, env } = context
  const number = await publishVersion(env.DB, publication.version)
  forgetTask(spec.projectId, spec.task)
  return {
    state: {
      phase: 'finished',
      status: 'succeeded',
      versionNumber: number,
      finishedAtMs: Date.now(),
    },
    events: [message(`Published ${spec.task}@${number}; it is live.`)],
  }
}

export const message = (text: string, level: NewEvent['level'] = 'info'): NewEvent => ({
  level,
  type: 'message',
  message: text,
})

function evaluationOf(
  context: StepContext,
  pinned: PinnedModel,
  client: Evaluation['client'],
  dataset: StoredDataset,
): Evaluation {
  return {
    client,
    blobs: context.env.BLOBS,
    dataset,
    scope: context.spec.scope,
    geometry: pinned.geometry,
    buildDigest: pinned.buildDigest,
    signal: context.signal,
  }
}

type ChosenRunner = Awaited<ReturnType<typeof chooseFor>>

async function withRunner<T>(
  context: StepContext,
  use: (runner: ChosenRunner) => Promise<T>,
): Promise<T> {
  const runner = await chooseFor(context)
  try {
    const result = await use(runner)
    context.runners.reportSuccess(runner.client.url)
    return result
  } catch (error) {
    if (error instanceof RunnerFault && !context.signal.aborted) {
      context.runners.reportFailure(runner.client.url)
    }
    if (error instanceof RunnerRefusal) context.runners.forgetStatus(runner.client.url)
    throw error
  }
}

async function chooseFor({ runners, spec, state }: StepContext) {
  const choice = await runners.choose({
    model: spec.model,
    modelDigest: state.pinned?.modelDigest ?? null,
    buildDigest: state.pinned?.buildDigest ?? null,
    adapters: [],
  })
  if (choice.kind === 'wrong_build') throw new BuildChanged()
  if (choice.kind === 'wrong_model') {
    throw new RunnerFault('unreachable', `none serves the ${spec.model} this job began on`)
  }
  const first = choice.kind === 'ranked' ? choice.runners[0] : undefined
  if (first?.status == null) throw new RunnerFault('unreachable', `none serves ${spec.model}`)
  return { client: runners.clientOf(first.url), status: first.status }
}

const optimisers = new WeakMap<PinnedModel, Optimiser>()

/** Kept with the pinned model it is for: making one draws its whole subspace. */
function optimiserOf(spec: JobSpec, pinned: PinnedModel): Optimiser {
  const known = optimisers.get(pinned)
  if (known !== undefined) return known
  try {
    const made = createOptimiser({
      name: spec.optimiser,
      geometry: pinned.geometry,
      seed: spec.seed,
      numTrials: spec.numTrials,
      scope: spec.scope,
    })
    optimisers.set(pinned, made)
    return made
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new JobFailure(
      'invalid_hyperparameters',
      `The search cannot be made for this model: ${error.message}.`,
      'method',
    )
  }
}
