import { judgeTexts, type TextVerdict } from '../../adapters/guard/text-verdict.ts'
import { GUARD_LEVEL, GUARD_POWER } from '../../adapters/guard/verdict.ts'
import { touchedLayers } from '../../adapters/rotation/rotation.ts'
import type { JobReport } from '../protocol/openai/job-report.ts'
import {
  isTextReport,
  type AnyReport,
  type TargetReport,
  type TextGuardReport,
} from '../protocol/openai/text-report.ts'
import { adapterKey } from '../storage/blobs.ts'
import { sha256Hex } from '../storage/digest.ts'
import { guardFolds } from './guard-folds.ts'
import type { CheckpointMetrics, PinnedModel } from './job-spec.ts'
import type { Measured } from './measured.ts'
import { describeVersion } from './new-version.ts'
import { conclude, decide } from './outcome.ts'
import { describeSearch, type SearchOutcome } from './search-outcome.ts'
import type { StepContext, Transition } from './step.ts'
import { summariseTexts } from './verdict-sentences.ts'

/** What the guard compares, and the unit that follows a gain. */
export type TextUnit = {
  readonly judged: 'log probability' | 'preference' | 'score'
  readonly unit: ' nats a token' | ' nats a pair' | ''
}

type Common<Evaluation> = Pick<
  TargetReport,
  Exclude<keyof TargetReport, 'objective' | 'guard' | 'train' | 'validation'>
> & {
  readonly guard: TextGuardReport<Evaluation>
  readonly train: Evaluation
  readonly validation: Evaluation | null
}

/**
 * Judges what was found, stores the adapter if it may be published, and decides how the job goes
 * on.
 */
export async function reportTexts<Evaluation>(
  context: StepContext,
  pinned: PinnedModel,
  { best, bytes, stored, trialsPerFold }: SearchOutcome,
  measured: Measured<Evaluation>,
  { judged, unit }: TextUnit,
  toReport: (common: Common<Evaluation>) => Exclude<AnyReport, JobReport>,
): Promise<Transition> {
  const { spec, env } = context
  const layers = touchedLayers(stored)
  const hasAdapter = layers.length > 0 && measured.adapterValue > measured.baseValue
  const verdict = judgeTexts(measured.differences, { groups: spec.groups, hasAdapter })
  const decision = decide(spec, verdict.outcome, hasAdapter)
  const moreExamples = verdict.outcome === 'promising' ? countMoreExamples(verdict) : null
  const guard: TextGuardReport<Evaluation> = {
    outcome: verdict.outcome,
    summary: summariseTexts(verdict, unit, moreExamples),
    would_publish: verdict.outcome === 'proven' ? 'adapter' : null,
    answer: 'adapter',
    enforced: spec.guard === 'enforce',
    forced: decision.isForced,
    test: `paired one-sided sign-flip of out-of-fold ${judged}`,
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    more_examples: moreExamples,
    folds: new Set(guardFolds(context)).size,
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
    ...describeSearch(context, pinned, best),
    layers,
    adapter_digest: adapterDigest,
    base_value: measured.baseValue,
    adapter_value: measured.adapterValue,
    train: measured.train,
    validation: measured.validation,
  })
  const version = await describeVersion(context, pinned, {
    adapterDigest,
    layers,
    bias: null,
    temperature: null,
  })
  // Without an adapter there is nothing to publish, not even by force.
  const publication = hasAdapter ? { version, report } : null
  if (publication !== null) await env.BLOBS.put(adapterKey(spec.projectId, adapterDigest), bytes)
  return conclude(decision, publication, guard)
}

/** The losses of a report on targets or pairs. */
export function lossMetrics(report: AnyReport): CheckpointMetrics {
  if (!isTextReport(report) || report.objective === 'reward') {
    throw new Error('a report on labels or grades has no losses of texts')
  }
  return {
    train_loss: report.train.adapter.log_loss,
    valid_loss: report.guard.out_of_fold.adapter.log_loss,
  }
}

/** How many more examples could show the estimated gain; null if these examples cannot tell. */
function countMoreExamples(verdict: TextVerdict): number | null {
  const { gain, smallestDetectableGain: smallest, numExamples } = verdict
  if (smallest === null || gain <= 0) return null
  const needed = Math.ceil(numExamples * ((smallest / gain) ** 2 - 1))
  return needed > MAX_GUESS * numExamples ? null : Math.max(1, needed)
}
/** An estimate of more than a hundred times the file is too uncertain to tell. */
const MAX_GUESS = 99
