import { biasedMeanLogProb, fitLabelBias } from '../../adapters/objective/label-bias.ts'
import { applyBias } from '../../adapters/objective/label-log-probs.ts'
import { identityRotation, touchedLayers } from '../../adapters/rotation/rotation.ts'
import { publishVersion, type NewVersion } from '../db/versions.ts'
import type { GradientReport, JobReport } from '../protocol/openai/fine-tuning.ts'
import { adapterKey, reportKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { forgetTask } from '../tasks/resolve.ts'
import { digestOfVersion } from '../tasks/version-content.ts'
import { scoreRotations } from './evaluate.ts'
import { JobFailure } from './faults.ts'
import { descended, type Found } from './gradient-steps.ts'
import type { JobSpec, JobState, PinnedModel, StoredDataset } from './job-spec.ts'
import { optimiserOf } from './optimiser-of.ts'
import { reportExamples, type ScoredExamples } from './report.ts'
import {
  evaluationOf,
  message,
  toStored,
  withRunner,
  type StepContext,
  type Transition,
} from './step-context.ts'

/**
 * Measures the best adapter and stores it and its report. The blobs are there before the state says
 * so, and their names are their contents', so that a crash between the two repeats the step without
 * a trace.
 */
export async function report(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, trials, env } = context
  const best = found(context, pinned)
  if (best === null) throw noGain('no trial could be scored')
  const { bytes, rotation: stored } = toStored(spec, pinned, best.rotation)
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
  const bias = fitLabelBias(training.adapter, training.gold)
  const asServed = (examples: ScoredExamples): ScoredExamples => ({
    ...examples,
    adapter: applyBias(examples.adapter, bias),
  })
  const baseValue = biasedMeanLogProb(training.base, training.gold)
  const adapterValue = biasedMeanLogProb(training.adapter, training.gold)
  if (adapterValue <= baseValue) throw noGain('the best trial scores no better than the base model')

  const adapterDigest = await sha256Hex(bytes)
  const made: JobReport = {
    guard: 'none',
    job: spec.id,
    optimizer: spec.optimiser,
    n_trials: trials.length,
    ...(best.gradient === undefined ? {} : { gradient: best.gradient }),
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
    bias,
    train: reportExamples(asServed(training), training.base),
    validation: validation === null ? null : reportExamples(asServed(validation), training.base),
  }
  const version = await describeVersion(spec, pinned, { adapterDigest, layers, bias })
  await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  await env.BLOBS.put(version.reportKey, JSON.stringify(made))
  return { state: { phase: 'publishing', publication: { version, report: made } } }
}

/** What the search ends with; null where it has nothing. */
function found(
  context: StepContext,
  pinned: PinnedModel,
): (Found & { readonly gradient?: GradientReport }) | null {
  if (context.spec.optimiser === 'gradient') return descended(context, pinned)
  const optimiser = optimiserOf(context, pinned)
  const best = optimiser.best(context.trials)
  if (best?.value == null) return null
  return { rotation: optimiser.toRotation(best.z), index: best.index, value: best.value }
}

const noGain = (why: string) =>
  new JobFailure(
    'no_gain',
    `Nothing was published: ${why}. The base model does as well on these examples.`,
  )

async function describeVersion(
  spec: JobSpec,
  pinned: PinnedModel,
  adapter: {
    readonly adapterDigest: string
    readonly layers: readonly number[]
    readonly bias: readonly number[]
  },
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
    bias: adapter.bias,
  }
  return {
    ...content,
    projectId: spec.projectId,
    task: spec.task,
    digest: await digestOfVersion(content),
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
