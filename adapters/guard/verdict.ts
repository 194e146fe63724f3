import type { LabelLogProbs } from '../objective/label-log-probs.ts'
import { balancedGain } from '../statistics/balanced-gain.ts'
import {
  balancedAccuracy,
  confusionMatrix,
  logLoss,
  predictLabels,
} from '../statistics/classification.ts'
import { learntTest } from '../statistics/learnt-test.ts'
import type { OutOfFold } from './out-of-fold.ts'

/** Share of the jobs with nothing to learn that may go live. */
export const GUARD_LEVEL = 0.05
/** How often a file of the size that a verdict asks for would settle it. */
export const GUARD_POWER = 0.8

/**
 * `proven`: it helps, and goes live. `promising`: an estimated gain that is not shown. `bias_only`: a
 * label bias alone helps, and the rotation adds nothing to it. `no_gain`: nothing learnt helps.
 */
export type Outcome = 'proven' | 'promising' | 'bias_only' | 'no_gain'

/** What a learnt answer is compared with. */
export type Reference = 'base' | 'calibrated_base' | 'bias_only'

/** A learnt answer on examples that it was not fitted to. */
export type JudgedAnswer = {
  /** Of the permutation test: whether the predictions have anything to do with the right labels. */
  readonly pValue: number
  /** The test's statistic in standard deviations under chance. */
  readonly z: number
  /** Balanced accuracy less that of the base model. */
  readonly gain: number
  /** 95%; null where no label has two examples. */
  readonly interval: readonly [number, number] | null
  /** Balanced accuracy less that of each reference. */
  readonly gains: Readonly<Partial<Record<Reference, number>>>
}

export type Verdict = {
  readonly outcome: Outcome
  /** What the outcome is about; null where nothing helps. */
  readonly answer: 'adapter' | 'bias_only' | null
  readonly adapter: JudgedAnswer
  readonly biasOnly: JudgedAnswer
  /** Examples that count: repeated inputs count once. */
  readonly numExamples: number
}

/**
 * Decides what becomes of what was learnt. The rule was fixed before the data it is measured on:
 *
 * 1. The better of the adapter and a label bias alone is judged: the one of higher balanced accuracy
 *    out of fold, of equals the one of lower log loss, and of equals again the bias.
 * 2. It is live where its predictions are shown to have learnt the labels (`learntTest`, at
 *    `GUARD_LEVEL`) and where its balanced accuracy is above the base model's.
 * 3. Otherwise an answer whose balanced accuracy is above the base model's is promising.
 * @param folds fold of each example
 * @param groups equal for examples that count as one, as repeated inputs; [examples]
 * @param hasAdapter whether the search found a rotation at all
 * @throws {RangeError} no examples, or lengths that differ
 */
export function judge(
  predictions: OutOfFold,
  gold: readonly number[],
  options: {
    readonly folds: readonly number[]
    readonly groups: readonly number[]
    readonly hasAdapter: boolean
  },
): Verdict {
  if (options.groups.length !== gold.length) {
    throw new RangeError(`${options.groups.length} groups of ${gold.length} examples`)
  }
  // Examples of one input are no independent witnesses: the first of them speaks for all.
  const firsts = options.groups.flatMap((group, i) =>
    options.groups.indexOf(group) === i ? [i] : [],
  )
  const pick = <T>(values: readonly T[]): T[] => firsts.map((i) => values[i]!)
  const labels = pick(gold)
  const folds = pick(options.folds)
  const base = pick(predictions.base)
  const calibrated = pick(predictions.calibratedBase)
  const bias = pick(predictions.biasOnly)
  const learnt = pick(predictions.adapter)

  const judgeAnswer = (answer: LabelLogProbs): JudgedAnswer => {
    const gainOver = (reference: LabelLogProbs) =>
      balancedGain(predictLabels(answer), predictLabels(reference), labels)
    return {
      ...learntTest(answer, labels, folds),
      ...gainOver(base),
      gains: {
        base: gainOver(base).gain,
        calibrated_base: gainOver(calibrated).gain,
        ...(answer === bias ? {} : { bias_only: gainOver(bias).gain }),
      },
    }
  }
  const adapter = judgeAnswer(learnt)
  const biasOnly = judgeAnswer(bias)
  const found = { adapter, biasOnly, numExamples: labels.length }

  const isAdapterBetter = options.hasAdapter && isBetter(learnt, bias, labels)
  const helps = (answer: JudgedAnswer): boolean => answer.gain > ROUNDING
  const isShown = (answer: JudgedAnswer): boolean => helps(answer) && answer.pValue <= GUARD_LEVEL
  if (isAdapterBetter && isShown(adapter)) {
    return { outcome: 'proven', answer: 'adapter', ...found }
  }
  if (!isAdapterBetter && isShown(biasOnly)) {
    return { outcome: 'bias_only', answer: 'bias_only', ...found }
  }
  if (options.hasAdapter && helps(adapter) && (isAdapterBetter || isShown(adapter))) {
    return { outcome: 'promising', answer: 'adapter', ...found }
  }
  if (helps(biasOnly)) return { outcome: 'promising', answer: 'bias_only', ...found }
  return { outcome: 'no_gain', answer: null, ...found }
}

/** Balanced accuracies this near are equal. */
const ROUNDING = 1e-9

function isBetter(answer: LabelLogProbs, other: LabelLogProbs, gold: readonly number[]): boolean {
  const balanced = (logProbs: LabelLogProbs): number =>
    balancedAccuracy(confusionMatrix(gold, predictLabels(logProbs), logProbs[0]!.length))
  const difference = balanced(answer) - balanced(other)
  if (Math.abs(difference) > ROUNDING) return difference > 0
  return logLoss(answer, gold) < logLoss(other, gold)
}

/** z that a one-sided test at `GUARD_LEVEL` has in `GUARD_POWER` of the cases: 1.645 + 0.842. */
const SETTLING_Z = 2.487
/** Below this the guess would be wild: the file could be of any size. */
const LEAST_Z = 0.25

/**
 * About how many examples more would settle what is promising, were they answered as these are: the
 * test's z grows as the root of their number.
 * @returns null where these say too little for a guess
 */
export function examplesToSettle({ z }: JudgedAnswer, numExamples: number): number | null {
  if (z < LEAST_Z) return null
  return Math.max(1, Math.ceil(numExamples * ((SETTLING_Z / z) ** 2 - 1)))
}

/** Means of values that belong together, as differences of repeated inputs do. */
export function meanByGroup(values: readonly number[], groups: readonly number[]): number[] {
  if (groups.length !== values.length) {
    throw new RangeError(`${groups.length} groups of ${values.length} examples`)
  }
  const members = new Map<number, number[]>()
  values.forEach((value, i) => {
    const known = members.get(groups[i]!)
    if (known === undefined) members.set(groups[i]!, [value])
    else known.push(value)
  })
  return [...members.values()].map((own) => own.reduce((sum, value) => sum + value, 0) / own.length)
}
