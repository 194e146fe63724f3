import { GUARD_LEVEL, GUARD_POWER } from '../../adapters/guard/verdict.ts'
import { judgeTargets, type TargetVerdict } from '../../adapters/guard/target-verdict.ts'
import { meanTokenLogProb } from '../../adapters/objective/target-log-probs.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import type {
  TargetEvaluation,
  TargetGuardReport,
  TargetMetrics,
  TargetReport,
} from '../protocol/openai/target-report.ts'
import { adapterKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { scoreRotations } from './evaluate.ts'
import { countFoldTrials, guardFolds } from './guard-folds.ts'
import { foldsFound } from './guard-steps.ts'
import type { PinnedModel } from './job-spec.ts'
import { sumsOf, trainingTokens } from './objective.ts'
import { describeVersion, found } from './publish.ts'
import {
  evaluationOf,
  message,
  toStored,
  withRunner,
  type StepContext,
  type Transition,
} from './step-context.ts'

/**
 * Measures what a job on texts and its folds found, and decides by the folds whether it is published.
 * As for labels, the adapter is stored before the state says so, under its contents' name.
 */
export async function reportTargets(
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec, trials, env } = context
  const identity = identityRotation(pinned.geometry)
  const best = found(context, pinned)
  const { bytes, rotation: stored } = toStored(spec, pinned, best?.rotation ?? identity)
  const folds = foldsFound(context, pinned)
  const numTokens = trainingTokens(pinned)
  const scores = await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, spec.training), [
      identity,
      stored,
      ...folds,
    ]),
  )
  const [base, own, ...candidates] = scores.map(sumsOf) as [number[], number[], ...number[][]]
  const foldOf = guardFolds(spec)
  const outOfFold = foldOf.map((fold, example) => candidates[fold]![example]!)
  const baseValue = meanTokenLogProb(base, numTokens)
  const adapterValue = meanTokenLogProb(own, numTokens)
  const layers = touchedLayers(stored)
  const hasAdapter = layers.length > 0 && adapterValue > baseValue
  const verdict = judgeTargets(base, outOfFold, { numTokens, groups: spec.groups, hasAdapter })
  const isEnforced = spec.guard === 'enforce'
  // Without its verdict's force the guard leaves an adapter that gained on its own examples alone.
  const isPublished = hasAdapter && (verdict.outcome === 'published' || spec.force || !isEnforced)
  const guard = describeGuard(verdict, {
    isEnforced,
    isForced: isEnforced && spec.force && isPublished && verdict.outcome !== 'published',
    numFolds: folds.length,
    trialsPerFold: best?.gradient === undefined ? countFoldTrials(spec) : trials.length,
    outOfFold: evaluate(base, outOfFold, numTokens),
  })
  const adapterDigest = await sha256Hex(bytes)
  const report: TargetReport = {
    objective: 'target',
    guard,
    warnings: spec.warnings,
    job: spec.id,
    optimizer: spec.optimiser,
    n_trials: trials.length,
    ...(best?.gradient === undefined ? {} : { gradient: best.gradient }),
    seed: spec.seed,
    scope: spec.scope,
    layers,
    adapter_digest: adapterDigest,
    model_digest: pinned.modelDigest,
    build_digest: pinned.buildDigest,
    best_value: best?.value ?? null,
    best_trial: best?.index ?? null,
    base_value: baseValue,
    adapter_value: adapterValue,
    seconds: (Date.now() - (context.state.startedAtMs ?? spec.createdAtMs)) / 1000,
    train: evaluate(base, own, numTokens),
    validation: await evaluateValidation(context, pinned, stored),
  }
  const version = await describeVersion(spec, pinned, {
    adapterDigest,
    layers,
    bias: null,
    temperature: null,
  })
  // Nothing was found that could be published, forced or not.
  const publication = hasAdapter ? { version, report } : null
  if (publication !== null) await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  if (isPublished) {
    const isDoubted = verdict.outcome !== 'published' && !isEnforced
    const events = isDoubted ? [message(describeDoubt(guard), 'warn')] : []
    return { state: { phase: 'publishing', publication }, events }
  }
  const error = { code: verdict.outcome, message: describeRefusal(guard, hasAdapter), param: null }
  return {
    state: { phase: 'finished', status: 'failed', finishedAtMs: Date.now(), error, publication },
    events: [message(error.message, 'warn')],
  }
}

async function evaluateValidation(
  context: StepContext,
  pinned: PinnedModel,
  stored: Rotation,
): Promise<TargetEvaluation | null> {
  const { validation } = context.spec
  const numTokens = pinned.targetTokens?.validation
  if (validation === null || numTokens === undefined) return null
  const scores = await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, validation), [
      identityRotation(pinned.geometry),
      stored,
    ]),
  )
  const [base, own] = scores.map(sumsOf) as [number[], number[]]
  return evaluate(base, own, numTokens)
}

const evaluate = (
  base: readonly number[],
  adapter: readonly number[],
  numTokens: readonly number[],
): TargetEvaluation => ({ base: measure(base, numTokens), adapter: measure(adapter, numTokens) })

function measure(sums: readonly number[], numTokens: readonly number[]): TargetMetrics {
  const logLoss = -meanTokenLogProb(sums, numTokens)
  return {
    num_examples: sums.length,
    num_tokens: numTokens.reduce((total, count) => total + count, 0),
    log_loss: logLoss,
    perplexity: Math.exp(logLoss),
  }
}

function describeGuard(
  verdict: TargetVerdict,
  job: {
    readonly isEnforced: boolean
    readonly isForced: boolean
    readonly numFolds: number
    readonly trialsPerFold: number
    readonly outOfFold: TargetEvaluation
  },
): TargetGuardReport {
  return {
    outcome: verdict.outcome,
    would_publish: verdict.outcome === 'published' ? 'adapter' : null,
    answer: 'adapter',
    enforced: job.isEnforced,
    forced: job.isForced,
    test: 'paired one-sided sign-flip of out-of-fold log probability',
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    folds: job.numFolds,
    trials_per_fold: job.trialsPerFold,
    against: 'base',
    p_value: verdict.pValue,
    gain: verdict.gain,
    interval: verdict.interval,
    smallest_detectable_gain: verdict.smallestDetectableGain,
    out_of_fold: job.outOfFold,
  }
}

const describeGain = ({ gain, p_value: pValue }: TargetGuardReport): string =>
  `the out-of-fold gain over the base model is ${gain.toFixed(3)} nats a token ` +
  `(p = ${pValue.toFixed(3)})`

const describeLimit = ({ smallest_detectable_gain: smallest }: TargetGuardReport): string =>
  smallest === null
    ? 'So few examples can show no gain at all'
    : `These examples could have shown a gain of ${smallest.toFixed(3)} nats a token or more`

function describeRefusal(guard: TargetGuardReport, hasAdapter: boolean): string {
  if (!hasAdapter) {
    return 'Nothing was published: no rotation makes the job’s own examples likelier.'
  }
  if (guard.outcome === 'no_gain') {
    return `Nothing was published: nothing learnt helps; ${describeGain(guard)}.`
  }
  return (
    `Nothing was published: it is not clear that what was learnt helps; ${describeGain(guard)}. ` +
    `${describeLimit(guard)}. ` +
    'More examples may settle it; POST …/publish with {"force": true} publishes it as it is.'
  )
}

const describeDoubt = (guard: TargetGuardReport): string =>
  `The guard would have published nothing (${guard.outcome}): ${describeGain(guard)}. ` +
  `${describeLimit(guard)}. ` +
  'The adapter is published because the job’s guard is "report", not "enforce".'
