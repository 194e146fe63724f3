import type { OutOfFold } from '../../adapters/guard/out-of-fold.ts'
import {
  GUARD_LEVEL,
  GUARD_POWER,
  type Comparison,
  type Verdict,
} from '../../adapters/guard/verdict.ts'
import { accuracyByCoverage } from '../../adapters/statistics/coverage.ts'
import type { GuardComparison, GuardReport } from '../protocol/openai/job-report.ts'
import { measure } from './report.ts'

/** A verdict as the report says it. */
export function reportGuard(options: {
  readonly verdict: Verdict
  /** What the figures are of, and what is published where anything is. */
  readonly answer: GuardReport['answer']
  readonly isEnforced: boolean
  readonly isForced: boolean
  readonly outOfFold: OutOfFold
  readonly gold: readonly number[]
  readonly numFolds: number
  readonly trialsPerFold: number
}): GuardReport {
  const { verdict, answer, outOfFold, gold } = options
  const compared = {
    adapter: toWire(verdict.adapter),
    bias_only: toWire(verdict.biasOnly),
  }
  const ofAnswer = answer === 'adapter' ? outOfFold.adapter : outOfFold.biasOnly
  return {
    outcome: verdict.outcome,
    would_publish: verdict.outcome === 'published' ? verdict.answer : null,
    answer,
    enforced: options.isEnforced,
    forced: options.isForced,
    test: 'paired one-sided sign-flip of out-of-fold log loss',
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    folds: options.numFolds,
    trials_per_fold: options.trialsPerFold,
    ...compared[answer],
    compared,
    out_of_fold: {
      base: measure(outOfFold.base, gold),
      calibrated_base: measure(outOfFold.calibratedBase, gold),
      bias_only: measure(outOfFold.biasOnly, gold),
      adapter: measure(outOfFold.adapter, gold),
    },
    accuracy_by_coverage: accuracyByCoverage(ofAnswer, gold).map((point) => ({
      min_confidence: point.minConfidence,
      coverage: point.coverage,
      accuracy: point.accuracy,
    })),
  }
}

const toWire = (comparison: Comparison): GuardComparison => ({
  p_value: comparison.pValue,
  against: comparison.against,
  gain: comparison.gain,
  interval: comparison.interval,
  smallest_detectable_gain: comparison.smallestDetectableGain,
  gains: comparison.gains,
})

const nats = (value: number): string => `${value.toFixed(3)} nats`

/** Why nothing was published, for the job's owner. */
export function describeRefusal(guard: GuardReport): string {
  if (guard.outcome === 'no_gain') {
    return `Nothing was published: nothing learnt helps; ${describeGain(guard)}.`
  }
  return (
    `Nothing was published: it is not clear that what was learnt helps; ${describeGain(guard)}. ` +
    `${describeLimit(guard)}. ` +
    'More examples may settle it; POST …/publish with {"force": true} publishes it as it is.'
  )
}

/** What is to be said of an adapter that is published though an enforced guard would not have. */
export function describeDoubt(guard: GuardReport): string {
  const instead =
    guard.would_publish === null
      ? `The guard would have published nothing (${guard.outcome})`
      : `The guard would have published ${REFERENCE_NAMES.bias_only} instead`
  return (
    `${instead}: ${describeGain(guard)}. ${describeLimit(guard)}. ` +
    'The adapter is published because the job’s guard is "report", not "enforce".'
  )
}

const describeGain = ({ against, gain, p_value: pValue }: GuardReport): string =>
  `the out-of-fold gain over ${REFERENCE_NAMES[against]} is ${nats(gain)} (p = ${pValue.toFixed(3)})`

const describeLimit = ({ smallest_detectable_gain: smallest }: GuardReport): string =>
  smallest === null
    ? 'So few examples can show no gain at all'
    : `These examples could have shown a gain of ${nats(smallest)} or more`

const REFERENCE_NAMES: Readonly<Record<GuardReport['against'], string>> = {
  base: 'the base model',
  calibrated_base: 'the calibrated base model',
  bias_only: 'a label bias alone',
  label_frequencies: 'the labels’ frequencies',
}
