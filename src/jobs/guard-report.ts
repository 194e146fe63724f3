import type { OutOfFold } from '../../adapters/guard/out-of-fold.ts'
import {
  examplesToSettle,
  GUARD_LEVEL,
  GUARD_POWER,
  type JudgedAnswer,
  type Verdict,
} from '../../adapters/guard/verdict.ts'
import { accuracyByCoverage } from '../../adapters/statistics/coverage.ts'
import type {
  ClassificationMetrics,
  GuardComparison,
  GuardReport,
} from '../protocol/openai/job-report.ts'
import { measure } from './report.ts'

/** A verdict as the report says it. */
export function reportGuard(options: {
  readonly verdict: Verdict
  /** What the figures are about, and what the version holds where there is one. */
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
    summary: summarise(outcome, answer, judged[answer], measured, gold.length, moreExamples),
    would_publish: outcome === 'proven' || outcome === 'bias_only' ? verdict.answer : null,
    answer,
    enforced: options.isEnforced,
    forced: options.isForced,
    test: 'permutation of the right labels within folds, by out-of-fold log odds',
    against: 'base',
    unit: 'balanced accuracy',
    level: GUARD_LEVEL,
    power: GUARD_POWER,
    more_examples: moreExamples,
    folds: options.numFolds,
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

const ANSWER_NAMES = { adapter: 'The adapter', bias_only: 'A label bias alone' } as const

/** What was found, what it was compared with, and what would settle it, for the job's owner. */
function summarise(
  outcome: GuardReport['outcome'],
  answer: GuardReport['answer'],
  judged: JudgedAnswer,
  measured: GuardReport['out_of_fold'],
  numExamples: number,
  moreExamples: number | null,
): string {
  const name = ANSWER_NAMES[answer]
  const { base, bias_only: bias } = measured
  const own = measured[answer]
  const right = ({ accuracy }: ClassificationMetrics) => Math.round(accuracy * numExamples)
  const balanced = ({ balanced_accuracy: value }: ClassificationMetrics) => value.toFixed(2)
  const counted =
    `answers ${right(own)} of ${numExamples} examples right that it did not learn from, and the ` +
    `base model ${right(base)} (balanced accuracy ${balanced(own)} against ${balanced(base)})`
  const chance = `labels dealt out at random fit as well with probability ${formatP(judged.pValue)}`
  switch (outcome) {
    case 'proven':
      return `${name} helps: it ${counted}; ${chance}.`
    case 'bias_only':
      return (
        `A label bias alone helps: it ${counted}; ${chance}. ` +
        `The rotation adds nothing to it (balanced accuracy ${balanced(measured.adapter)}).`
      )
    case 'promising':
      return `${name} may help, but this is not shown yet: it ${counted}; ${chance}. ${describeNeed(moreExamples)}`
    case 'no_gain':
      return (
        `Nothing learnt helps: of ${numExamples} examples that it did not learn from, the adapter ` +
        `answers ${right(measured.adapter)} right, a label bias alone ${right(bias)} and the base ` +
        `model ${right(base)} (balanced accuracy ${balanced(measured.adapter)}, ${balanced(bias)} ` +
        `and ${balanced(base)}).`
      )
  }
}

/** How many examples more would settle what is promising. */
export function describeNeed(moreExamples: number | null): string {
  return moreExamples === null
    ? 'These examples say too little to tell how many more would settle it.'
    : `About ${moreExamples} more ${moreExamples === 1 ? 'example' : 'examples'} would settle it.`
}

/** A share that rounds to nothing is not nothing. */
export const formatP = (pValue: number): string =>
  pValue < 0.001 ? 'below 0.001' : pValue.toFixed(3)
