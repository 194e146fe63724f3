import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { judge } from '../../adapters/guard/verdict.ts'
import { biasedMeanLogProb, fitLabelBias } from '../../adapters/objective/label-bias.ts'
import { applyBias } from '../../adapters/objective/label-log-probs.ts'
import { applyTemperature } from '../../adapters/objective/temperature.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import { publishVersion, type NewVersion } from '../db/versions.ts'
import type { JobReport } from '../protocol/openai/job-report.ts'
import { adapterKey, reportKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { forgetTask } from '../tasks/resolve.ts'
import { digestOfVersion } from '../tasks/version-content.ts'
import { scoreRotations } from './evaluate.ts'
import { guardFolds } from './guard-folds.ts'
import { reportGuard } from './guard-report.ts'
import type { JobSpec, JobState, PinnedModel } from './job-spec.ts'
import { conclude, decide } from './outcome.ts'
import { reportExamples, reportKnowledge, type ScoredExamples } from './report.ts'
import { collectOutcome } from './search-outcome.ts'
import { evaluationOf, message, withRunner } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'
import { warnOfChance } from './warnings.ts'

/**
 * Measures what the job and its folds found, and decides by the folds what becomes of it. The
 * adapter is stored before the state says so, and its name is its contents', so that a crash between
 * the two repeats the step without a trace.
 */
export async function report(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const { spec, search, trials, env } = context
  const { gold } = spec.training
  const identity = identityRotation(pinned.geometry)
  const {
    best,
    bytes,
    stored,
    outOfFold: foldRotations,
    ...found
  } = collectOutcome(context, pinned)

  const [base, own, ...candidates] = (await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, spec.training), [
      identity,
      stored,
      ...foldRotations,
    ]),
  )) as [number[][], number[][], ...number[][][]]
  const baseValue = biasedMeanLogProb(base, gold)
  const adapterValue = biasedMeanLogProb(own, gold)
  const hasAdapter = touchedLayers(stored).length > 0 && adapterValue > baseValue
  const folds = guardFolds(spec, search.maxFolds)
  const outOfFold = predictOutOfFold({ gold, folds, base, candidates })
  const verdict = judge(outOfFold, gold, { folds, groups: spec.groups, hasAdapter })
  const decision = decide(spec, verdict.outcome, hasAdapter)
  const whenForced = hasAdapter ? 'adapter' : 'bias_only'
  const answer = decision.isUnheld ? whenForced : (verdict.answer ?? whenForced)
  const isAdapter = answer === 'adapter'

  const bias = fitLabelBias(isAdapter ? own : base, gold)
  const temperature = outOfFold.temperatures[isAdapter ? 'adapter' : 'biasOnly']
  const asServed = (examples: ScoredExamples): ScoredExamples => ({
    ...examples,
    adapter: applyTemperature(
      applyBias(isAdapter ? examples.adapter : examples.base, bias),
      temperature,
    ),
  })
  const validation = await scoreValidation(context, pinned, [identity, stored])
  const layers = isAdapter ? touchedLayers(stored) : []
  const adapterDigest = isAdapter ? await sha256Hex(bytes) : null
  const guard = reportGuard({
    verdict,
    answer,
    isEnforced: spec.guard === 'enforce',
    isForced: decision.isForced,
    outOfFold,
    gold,
    numFolds: candidates.length,
    trialsPerFold: found.trialsPerFold,
  })
  const knowledge = reportKnowledge(
    { logProbs: base, gold },
    spec.groups,
    validation === null ? null : { logProbs: validation.base, gold: validation.gold },
  )
  const chance = warnOfChance(knowledge, guard)
  const warned = chance === null ? [] : [message(chance.message, 'warn')]
  const made: JobReport = {
    guard,
    base_knowledge: knowledge,
    warnings: chance === null ? spec.warnings : [...spec.warnings, chance],
    job: spec.id,
    optimizer: spec.optimiser,
    n_trials: trials.length,
    ...best?.report,
    seed: spec.seed,
    scope: spec.scope,
    labels: spec.labels,
    layers,
    adapter_digest: adapterDigest,
    model_digest: pinned.modelDigest,
    build_digest: pinned.buildDigest,
    best_value: best?.value ?? null,
    best_trial: best?.index ?? null,
    base_value: baseValue,
    adapter_value: adapterValue,
    seconds: (Date.now() - (context.state.startedAtMs ?? spec.createdAtMs)) / 1000,
    bias,
    temperature,
    train: reportExamples(asServed({ gold, base, adapter: own }), base),
    validation: validation === null ? null : reportExamples(asServed(validation), base),
  }
  const version = await describeVersion(spec, pinned, { adapterDigest, layers, bias, temperature })
  if (adapterDigest !== null) await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  const next = conclude(decision, { version, report: made }, guard)
  return { ...next, events: [...warned, ...(next.events ?? [])] }
}

async function scoreValidation(
  context: StepContext,
  pinned: PinnedModel,
  rotations: readonly [Rotation, Rotation],
): Promise<ScoredExamples | null> {
  const { validation } = context.spec
  if (validation === null) return null
  const [base, adapter] = await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, validation), rotations),
  )
  return { gold: validation.gold, base: base!, adapter: adapter! }
}

export async function describeVersion(
  spec: JobSpec,
  pinned: PinnedModel,
  adapter: {
    readonly adapterDigest: string | null
    readonly layers: readonly number[]
    /** Null, as the temperature, where the answers are texts. */
    readonly bias: readonly number[] | null
    readonly temperature: number | null
  },
): Promise<NewVersion> {
  const content = {
    model: spec.model,
    modelDigest: pinned.modelDigest,
    adapterDigest: adapter.adapterDigest,
    // A bias rotates nothing, so it shares computed prompts as the default scope does.
    scope: adapter.adapterDigest === null ? ('generated' as const) : spec.scope,
    layers: adapter.layers,
    instructions: spec.frame.instructions,
    position: spec.frame.position,
    labels: spec.objective === 'label' ? spec.labels : null,
    bias: adapter.bias,
    temperature: adapter.temperature,
    minConfidence: spec.confidence?.min ?? null,
    fallbackLabel: spec.confidence?.fallbackLabel ?? null,
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

/** Stores the report and adds the version, once however often this runs; live where it is shown to help. */
export async function publish(
  context: StepContext,
  publication: NonNullable<JobState['publication']>,
): Promise<Transition> {
  const { spec, env } = context
  const { version, report: made } = publication
  // A state that an older release wrote says nothing of this, and means that the version goes live.
  const isLive = publication.isLive ?? true
  await env.BLOBS.put(version.reportKey, JSON.stringify(made))
  const number = await publishVersion(env.DB, version, { isLive })
  forgetTask(spec.projectId, spec.task)
  return {
    state: {
      phase: 'finished',
      status: 'succeeded',
      versionNumber: number,
      finishedAtMs: Date.now(),
    },
    events: [message(describePublication(spec.task, number, isLive, made.guard))],
  }
}

function describePublication(
  task: string,
  number: number,
  isLive: boolean,
  // Reports of older releases have no summary.
  { summary, forced }: { readonly summary?: string; readonly forced: boolean },
): string {
  const published = isLive
    ? `Published ${task}@${number}; it is live${forced ? ', forced against the guard' : ''}.`
    : `Published ${task}@${number}, which is not live: POST /v1/tasks/${task}/promote makes it so.`
  return summary === undefined ? published : `${published} ${summary}`
}
