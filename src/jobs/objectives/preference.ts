import { logSigmoid, preferenceMargins } from '../../../adapters/objective/preference.ts'
import { ok } from '../../../adapters/result.ts'
import type { PreferenceEvaluation, PreferenceMetrics } from '../../protocol/openai/text-report.ts'
import type { TargetDataset } from '../../protocol/runner-scoring.ts'
import { applyFrame, type Frame } from '../../tasks/frame.ts'
import type { JobSpec, PinnedModel } from '../job-spec.ts'
import type { Measured } from '../measured.ts'
import { differentiatePairs } from '../preference.ts'
import type { NumberedExample } from '../../files/read-examples.ts'
import { meanOf, scoreOnRunner, scoreTexts } from '../scores.ts'
import { collectOutcome, type SearchOutcome } from '../search-outcome.ts'
import type { ObjectiveKind, StepContext } from '../step.ts'
import { lossMetrics, reportTexts } from '../text-report.ts'

/**
 * The job learns which of two texts is preferred. It fits the loss of a pair's margin over the base
 * model.
 */
export const PREFERENCE: ObjectiveKind = {
  hasLabels: false,
  hasPairs: true,
  usesDataset: true,
  hasGradient: true,
  onlySearch: 'gradient',
  defaults: { numTrials: 150, numSteps: 24, promptDropout: 0 },
  lines: {
    wants: 'the job learns pairs',
    takes: (kind) => kind === 'pair',
    settleLabels: () => ok([]),
    toDataset: (examples, _labels, frame) => ok(toPairDataset(examples, frame)),
  },
  describe: () => 'which texts are preferred',
  measureRotations: scoreOnRunner,
  valueOf() {
    throw new Error('no search by values learns pairs')
  },
  differentiate: (evaluation, query, spec, base) =>
    differentiatePairs(evaluation, query, betaOf(spec), base),
  async report(context, pinned) {
    const beta = betaOf(context.spec)
    const outcome = collectOutcome(context, pinned)
    const measured = await measurePairs(context, pinned, outcome, beta)
    const unit = { judged: 'preference', unit: ' nats a pair' } as const
    return reportTexts(context, pinned, outcome, measured, unit, (common) => ({
      objective: 'preference',
      beta,
      ...common,
    }))
  },
  checkpointMetrics: lossMetrics,
}

function betaOf({ beta }: JobSpec): number {
  if (beta == null) throw new Error('this job on pairs has no beta')
  return beta
}

/** Each pair becomes two examples: its preferred text, then its rejected one. */
const toPairDataset = (examples: readonly NumberedExample[], frame: Frame): TargetDataset => ({
  examples: examples.flatMap(({ example }) => {
    const messages = [...applyFrame(frame, example.messages).messages]
    return [example.answer, example.rejected ?? ''].map((text) => ({
      messages,
      target: text.trim(),
    }))
  }),
})

async function measurePairs(
  context: StepContext,
  pinned: PinnedModel,
  outcome: SearchOutcome,
  beta: number,
): Promise<Measured<PreferenceEvaluation>> {
  const { training, outOfFold, validation } = await scoreTexts(context, pinned, outcome)
  const { base, own } = training
  const evaluate = (ofBase: readonly number[], ofAdapter: readonly number[]) => ({
    base: measurePairsOf(ofBase, ofBase, beta),
    adapter: measurePairsOf(ofAdapter, ofBase, beta),
  })
  const train = evaluate(base, own)
  return {
    baseValue: -train.base.log_loss,
    adapterValue: -train.adapter.log_loss,
    // A pair has two entries, because its texts are two examples, of one group.
    differences: preferenceMargins(outOfFold, base, beta).flatMap((margin) => {
      const gain = logSigmoid(margin) + Math.LN2
      return [gain, gain]
    }),
    train,
    outOfFold: evaluate(base, outOfFold),
    validation: validation === null ? null : evaluate(validation.base, validation.own),
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
