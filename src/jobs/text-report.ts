import {
  judgeTexts,
  targetDifferences,
  type TextVerdict,
} from '../../adapters/guard/text-verdict.ts'
import { GUARD_LEVEL, GUARD_POWER } from '../../adapters/guard/verdict.ts'
import { meanTokenLogProb } from '../../adapters/objective/target-log-probs.ts'
import { logSigmoid, preferenceMargins } from '../../adapters/objective/preference.ts'
import { identityRotation, touchedLayers, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { JobReport } from '../protocol/openai/job-report.ts'
import type {
  AnyReport,
  PreferenceEvaluation,
  PreferenceMetrics,
  TargetEvaluation,
  TargetMetrics,
  TargetReport,
  TextGuardReport,
} from '../protocol/openai/text-report.ts'
import { adapterKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { scoreRotations } from './evaluate.ts'
import { guardFolds } from './guard-folds.ts'
import type { PinnedModel, StoredDataset } from './job-spec.ts'
import type { Measured } from './measured.ts'
import { meanOf, sumsOf, trainingTokens } from './objective.ts'
import { describeNeed, formatP } from './guard-report.ts'
import { conclude, decide } from './outcome.ts'
import { describeVersion } from './publish.ts'
import { countReportDraws, measureRewards } from './rewards/measure-rewards.ts'
import { collectOutcome, type SearchOutcome } from './search-outcome.ts'
import { evaluationOf, withRunner } from './step-context.ts'
import type { StepContext, Transition } from './step.ts'

/**
 * Measures what a job on texts and its folds found, and decides by the folds what becomes of it.
 * As for labels, the adapter is stored before the state says so, under its contents' name.
 */
export async function reportTexts(context: StepContext, pinned: PinnedModel): Promise<Transition> {
  const outcome = collectOutcome(context, pinned)
  const { stored, outOfFold: folds } = outcome
  const { beta, objective } = context.spec
  if (objective === 'preference') {
    if (beta == null) throw new Error('a job on pairs without its beta')
    const measured = await measurePairs(context, pinned, stored, folds, beta)
    return judgeMeasured(context, pinned, outcome, measured, (common) => ({
      objective: 'preference',
      beta,
      ...common,
    }))
  }
  if (objective === 'reward') {
    const { samples, measured } = await measureRewards(context, pinned, stored, folds)
    const { grader, generation } = context.spec
    if (grader == null || generation == null) throw new Error('a job on rewards without its grader')
    return judgeMeasured(context, pinned, outcome, measured, (common) => ({
      objective: 'reward',
      ...(beta == null ? {} : { beta }),
      num_draws: countReportDraws(context),
      grader,
      generation,
      ...common,
      samples,
    }))
  }
  const measured = await measureTargets(context, pinned, stored, folds)
  return judgeMeasured(context, pinned, outcome, measured, (common) => ({
    objective: 'target',
    ...common,
  }))
}

async function measurePairs(
  context: StepContext,
  pinned: PinnedModel,
  stored: Rotation,
  folds: readonly Rotation[],
  beta: number,
): Promise<Measured<PreferenceEvaluation>> {
  const { spec, search } = context
  const identity = identityRotation(pinned.geometry)
  const [base, own, ...candidates] = await scoreTexts(context, pinned, spec.training, [
    identity,
    stored,
    ...folds,
  ])
  const outOfFold = guardFolds(spec, search.maxFolds).map(
    (fold, example) => candidates[fold]![example]!,
  )
  const evaluate = (ofBase: readonly number[], ofAdapter: readonly number[]) => ({
    base: measurePairsOf(ofBase, ofBase, beta),
    adapter: measurePairsOf(ofAdapter, ofBase, beta),
  })
  let validation: PreferenceEvaluation | null = null
  if (spec.validation !== null) {
    const [ofBase, ofAdapter] = await scoreTexts(context, pinned, spec.validation, [
      identity,
      stored,
    ])
    validation = evaluate(ofBase, ofAdapter)
  }
  return {
    baseValue: -evaluate(base, base).base.log_loss,
    adapterValue: -evaluate(base, own).adapter.log_loss,
    // Both texts of a pair are one group.
    differences: preferenceMargins(outOfFold, base, beta).flatMap((margin) => {
      const gain = logSigmoid(margin) + Math.LN2
      return [gain, gain]
    }),
    train: evaluate(base, own),
    outOfFold: evaluate(base, outOfFold),
    validation,
  }
}

function measurePairsOf(
  logProbs: readonly number[],
  base: readonly number[],
  beta: number,
): PreferenceMetrics {
  const gaps = preferenceMargins(
    logProbs,
    logProbs.map(() => 0),
    1,
  )
  const margins = preferenceMargins(logProbs, base, beta)
  return {
    num_pairs: gaps.length,
    preferred_share: gaps.filter((gap) => gap > 0).length / gaps.length,
    mean_gap: meanOf(gaps),
    log_loss: -meanOf(margins.map(logSigmoid)),
  }
}

/** Log probability of each whole text, [rotation][text]. */
async function scoreTexts(
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
): Promise<[number[], number[], ...number[][]]> {
  const scores = await withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, dataset), rotations),
  )
  return scores.map(sumsOf) as [number[], number[], ...number[][]]
}

async function measureTargets(
  context: StepContext,
  pinned: PinnedModel,
  stored: Rotation,
  folds: readonly Rotation[],
): Promise<Measured<TargetEvaluation>> {
  const { spec, search } = context
  const identity = identityRotation(pinned.geometry)
  const score = (dataset: StoredDataset, rotations: readonly Rotation[]) =>
    scoreTexts(context, pinned, dataset, rotations)
  const [base, own, ...candidates] = await score(spec.training, [identity, stored, ...folds])
  const numTokens = trainingTokens(pinned)
  const outOfFold = guardFolds(spec, search.maxFolds).map(
    (fold, example) => candidates[fold]![example]!,
  )
  let validation: TargetEvaluation | null = null
  if (spec.validation !== null) {
    const [ofBase, ofAdapter] = await score(spec.validation, [identity, stored])
    validation = evaluateTargets(ofBase, ofAdapter, pinned.targetTokens?.validation ?? [])
  }
  return {
    baseValue: meanTokenLogProb(base, numTokens),
    adapterValue: meanTokenLogProb(own, numTokens),
    differences: targetDifferences(base, outOfFold, numTokens),
    train: evaluateTargets(base, own, numTokens),
    outOfFold: evaluateTargets(base, outOfFold, numTokens),
    validation,
  }
}

/** What the guard compares. */
const JUDGED = {
  target: 'log probability',
  preference: 'preference',
  reward: 'score',
} as const
/** After a gain. */
const UNITS = { target: ' nats a token', preference: ' nats a pair', reward: '' } as const

type Common<Evaluation> = Pick<
  TargetReport,
  Exclude<keyof TargetReport, 'objective' | 'guard' | 'train' | 'validation'>
> & {
  readonly guard: TextGuardReport<Evaluation>
  readonly train: Evaluation
  readonly validation: Evaluation | null
}

/** Judges, stores what may be published, and says what comes next. */
async function judgeMeasured<Evaluation>(
  context: StepContext,
  pinned: PinnedModel,
  { best, bytes, stored, trialsPerFold }: SearchOutcome,
  measured: Measured<Evaluation>,
  toReport: (common: Common<Evaluation>) => Exclude<AnyReport, JobReport>,
): Promise<Transition> {
  const { spec, search, trials, env } = context
  const { objective } = spec
  if (objective === 'label') throw new Error('labels have a report of their own')
  const layers = touchedLayers(stored)
  const hasAdapter = layers.length > 0 && measured.adapterValue > measured.baseValue
  const verdict = judgeTexts(measured.differences, { groups: spec.groups, hasAdapter })
  const decision = decide(spec, verdict.outcome, hasAdapter)
  const moreExamples = verdict.outcome === 'promising' ? examplesMore(verdict) : null
  const guard: TextGuardReport<Evaluation> = {
    outcome: verdict.outcome,
    summary: summarise(verdict, UNITS[objective], moreExamples),
    would_publish: verdict.outcome === 'proven' ? 'adapter' : null,
    answer: 'adapter',
    enforced: spec.guard === 'enforce',
    forced: decision.isForced,
    test: `paired one-sided sign-flip of out-of-fold ${JUDGED[objective]}`,
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    more_examples: moreExamples,
    folds: new Set(guardFolds(spec, search.maxFolds)).size,
    trials_per_fold: trialsPerFold,
    against: 'base',
    p_value: verdict.pValue,
    gain: verdict.gain,
    interval: verdict.interval,
    smallest_detectable_gain: verdict.smallestDetectableGain,
    out_of_fold: measured.outOfFold,
  }
  const adapterDigest = await sha256Hex(bytes)
  const report = toReport({
    guard,
    warnings: spec.warnings,
    job: spec.id,
    optimizer: spec.optimiser,
    n_trials: trials.length,
    ...best?.report,
    seed: spec.seed,
    scope: spec.scope,
    layers,
    adapter_digest: adapterDigest,
    model_digest: pinned.modelDigest,
    build_digest: pinned.buildDigest,
    best_value: best?.value ?? null,
    best_trial: best?.index ?? null,
    base_value: measured.baseValue,
    adapter_value: measured.adapterValue,
    seconds: (Date.now() - (context.state.startedAtMs ?? spec.createdAtMs)) / 1000,
    train: measured.train,
    validation: measured.validation,
  })
  const version = await describeVersion(spec, pinned, {
    adapterDigest,
    layers,
    bias: null,
    temperature: null,
  })
  // Otherwise nothing was found that could be published, forced or not.
  const publication = hasAdapter ? { version, report } : null
  if (publication !== null) await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  return conclude(decision, publication, guard)
}

const evaluateTargets = (
  base: readonly number[],
  adapter: readonly number[],
  numTokens: readonly number[],
): TargetEvaluation => ({
  base: measureTargetsOf(base, numTokens),
  adapter: measureTargetsOf(adapter, numTokens),
})

function measureTargetsOf(sums: readonly number[], numTokens: readonly number[]): TargetMetrics {
  const logLoss = -meanTokenLogProb(sums, numTokens)
  return {
    num_examples: sums.length,
    num_tokens: numTokens.reduce((total, count) => total + count, 0),
    log_loss: logLoss,
    perplexity: Math.exp(logLoss),
  }
}

function summarise(
  { outcome, gain, pValue, numExamples }: TextVerdict,
  unit: string,
  moreExamples: number | null,
): string {
  const found =
    `on ${numExamples} examples that it did not learn from, its gain over the base model is ` +
    `${gain.toFixed(3)}${unit} (p = ${formatP(pValue)})`
  switch (outcome) {
    case 'proven':
      return `The adapter helps: ${found}.`
    case 'promising':
      return `The adapter may help, but this is not shown yet: ${found}. ${describeNeed(moreExamples)}`
    case 'no_gain':
      return `Nothing learnt helps: ${found}.`
  }
}

/** More examples until the gain seen is one that they could show; null where these tell nothing of it. */
function examplesMore(verdict: TextVerdict): number | null {
  const { gain, smallestDetectableGain: smallest, numExamples } = verdict
  if (smallest === null || gain <= 0) return null
  const needed = Math.ceil(numExamples * ((smallest / gain) ** 2 - 1))
  return needed > MAX_GUESS * numExamples ? null : Math.max(1, needed)
}
/** A guess of a file a hundred times as large is none. */
const MAX_GUESS = 99
