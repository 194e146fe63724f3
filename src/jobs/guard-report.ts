import type { OutOfFold } from '../../adapters/guard/out-of-fold.ts'
import {
  examplesToSettle,
  GUARD_LEVEL,
  GUARD_POWER,
  type JudgedAnswer,
  type Verdict,
} from '../../adapters/guard/verdict.ts'
import { accuracyByCoverage } from '../../adapters/statistics/coverage.ts'
import type { GuardComparison, GuardReport } from '../protocol/openai/job-report.ts'
import { measure } from './report.ts'
import { summariseLabels } from './verdict-sentences.ts'

/** The guard's part of a report. */
export function reportGuard(options: {
  readonly verdict: Verdict
  /** What the figures are about, and what the version holds if there is one. */
  readonly answer: GuardReport['answer']
  readonly isEnforced: boolean
  readonly isForced: boolean
  readonly outOfFold: OutOfFold
  readonly gold: readonly number[]
  readonly numFolds: number
  readonly trialsPerFold: number
}): GuardReport {
  const { verdict, answer, outOfFold, gold } = options
  const judged = { adapter: verdict.adapter, bias_only: verdict.biasOnly }
  const { outcome } = verdict
  const measured = {
    base: measure(outOfFold.base, gold),
    calibrated_base: measure(outOfFold.calibratedBase, gold),
    bias_only: measure(outOfFold.biasOnly, gold),
    adapter: measure(outOfFold.adapter, gold),
  }
  const moreExamples =
    outcome === 'promising' ? examplesToSettle(judged[answer], verdict.numExamples) : null
  return {
    outcome,
    summary: summariseLabels(outcome, answer, judged[answer], measured, gold.length, {
      moreExamples,
      numPartitions: answer === 'adapter' ? verdict.numPartitions : 1,
    }),
    would_publish: outcome === 'proven' || outcome === 'bias_only' ? verdict.answer : null,
    answer,
    enforced: options.isEnforced,
    forced: options.isForced,
    test:
      verdict.numPartitions === 1
        ? 'permutation of the right labels within folds, by out-of-fold log odds'
        : 'permutation of the right labels, by the mean of several partitions’ out-of-fold log odds',
    against: 'base',
    unit: 'balanced accuracy',
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    more_examples: moreExamples,
    folds: options.numFolds,
    partitions: verdict.numPartitions,
    trials_per_fold: options.trialsPerFold,
    ...toWire(judged[answer]),
    compared: { adapter: toWire(judged.adapter), bias_only: toWire(judged.bias_only) },
    out_of_fold: measured,
    accuracy_by_coverage: accuracyByCoverage(
      answer === 'adapter' ? outOfFold.adapter : outOfFold.biasOnly,
      gold,
    ).map((point) => ({
      min_confidence: point.minConfidence,
      coverage: point.coverage,
      accuracy: point.accuracy,
    })),
  }
}

const toWire = ({ pValue, gain, interval, gains }: JudgedAnswer): GuardComparison => ({
  p_value: pValue,
  gain,
  interval,
  gains,
})
