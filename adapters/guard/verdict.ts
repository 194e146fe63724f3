import type { LabelLogProbs } from '../objective/label-log-probs.ts'
import { balancedGain } from '../statistics/balanced-gain.ts'
import {
  balancedAccuracy,
  confusionMatrix,
  logLoss,
  predictLabels,
} from '../statistics/classification.ts'
import { learntTest, type LearntTest } from '../statistics/learnt-test.ts'
import type { OutOfFold } from './out-of-fold.ts'
import { testPartitions, type PartitionPredictions } from './repeats.ts'

/** Among jobs whose examples have nothing to learn, the share that may go live. */
export const GUARD_LEVEL = 0.05
/** The probability that a file of the size that a verdict asks for would settle it. */
export const GUARD_POWER = 0.8

/**
 * `proven`: the adapter helps. `promising`: the estimated gain is positive but not shown by the test.
 * `bias_only`: a label bias alone helps, and the rotation adds nothing to it. `no_gain`: neither helps.
 */
export type Outcome = 'proven' | 'promising' | 'bias_only' | 'no_gain'

/** An answer that a learnt answer is compared with. */
export type Reference = 'base' | 'calibrated_base' | 'bias_only'

/** Out-of-fold figures of a learnt answer: the adapter, or a label bias alone. */
export type JudgedAnswer = {
  /** Permutation test of whether the predictions depend on the right labels (`learntTest`). */
  readonly pValue: number
  /** The test's statistic, in standard deviations of its null distribution. */
  readonly z: number
  /** Balanced accuracy less the base model's. */
  readonly gain: number
  /** 95% interval of `gain`; null if no label has two examples. */
  readonly interval: readonly [number, number] | null
  /** Balanced accuracy less each reference's. */
  readonly gains: Readonly<Partial<Record<Reference, number>>>
}

export type Verdict = {
  readonly outcome: Outcome
  /** The answer that the outcome is about; null if neither helps. */
  readonly answer: 'adapter' | 'bias_only' | null
  readonly adapter: JudgedAnswer
  readonly biasOnly: JudgedAnswer
  /** Number of examples; those with the same input count once. */
  readonly numExamples: number
  /** Divisions of the examples into folds by which the adapter was tested. */
  readonly numPartitions: number
}

/** With a p-value in this range, first excluded and last included, one partition leaves a doubt. */
const DOUBT = [0.01, 0.5] as const

/**
 * Whether further partitions should settle a verdict by one. A smaller p-value is proof enough, and with
 * a larger one the adapter is hardly ever shown to help.
 */
export const leavesDoubt = ({ answer, adapter, numPartitions }: Verdict): boolean =>
  numPartitions === 1 &&
  answer === 'adapter' &&
  adapter.pValue > DOUBT[0] &&
  adapter.pValue <= DOUBT[1]

/**
 * Judges the adapter and a label bias alone. The rule was fixed before it was measured:
 *
 * 1. The better of the two is judged: higher out-of-fold balanced accuracy, then lower log loss; the
 *    bias wins a tie.
 * 2. It is shown to help if `learntTest` passes at `GUARD_LEVEL` and its balanced accuracy is above the
 *    base model's. The outcome is then `proven` for the adapter, or `bias_only` for the bias.
 * 3. Otherwise an answer is `promising` if its balanced accuracy is above the base model's.
 *
 * If the verdict leaves a doubt (`leavesDoubt`), the examples are divided anew and judged again, with the
 * further partitions in `repeats`: the adapter's test is then `testPartitions`. The figures stay those of
 * the first partition, so that the counts of right answers are about the same folds as before.
 * @param predictions out of fold, [examples][labels]
 * @param gold right label of each example
 * @param options.folds fold of each example
 * @param options.groups group of each example; a group, such as one repeated input, counts once
 * @param options.hasAdapter whether the search found a rotation
 * @param options.repeats the adapter's predictions of further partitions
 * @throws {RangeError} no examples, or the lengths differ
 */
export function judge(
  predictions: OutOfFold,
  gold: readonly number[],
  options: {
    readonly folds: readonly number[]
    readonly groups: readonly number[]
    readonly hasAdapter: boolean
    /** The adapter's predictions of further partitions; none by default. */
    readonly repeats?: readonly PartitionPredictions[]
  },
): Verdict {
  if (options.groups.length !== gold.length) {
    throw new RangeError(`${options.groups.length} groups for ${gold.length} examples`)
  }
  // Examples with the same input are not independent, so only the first of them counts.
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

  const repeats = (options.repeats ?? []).map((repeat) => ({
    folds: pick(repeat.folds),
    predictions: pick(repeat.predictions),
  }))
  const testOf = (answer: LabelLogProbs): LearntTest =>
    answer === learnt && repeats.length > 0
      ? testPartitions([{ folds, predictions: learnt }, ...repeats], labels)
      : learntTest(answer, labels, folds)

  const judgeAnswer = (answer: LabelLogProbs): JudgedAnswer => {
    const gainOver = (reference: LabelLogProbs) =>
      balancedGain(predictLabels(answer), predictLabels(reference), labels)
    return {
      ...testOf(answer),
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
  const found = {
    adapter,
    biasOnly,
    numExamples: labels.length,
    numPartitions: 1 + repeats.length,
  }

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

/** Balanced accuracies that differ by less are equal. */
const ROUNDING = 1e-9

function isBetter(answer: LabelLogProbs, other: LabelLogProbs, gold: readonly number[]): boolean {
  const balanced = (logProbs: LabelLogProbs): number =>
    balancedAccuracy(confusionMatrix(gold, predictLabels(logProbs), logProbs[0]!.length))
  const difference = balanced(answer) - balanced(other)
  if (Math.abs(difference) > ROUNDING) return difference > 0
  return logLoss(answer, gold) < logLoss(other, gold)
}

/** Expected z at which a one-sided test at `GUARD_LEVEL` has power `GUARD_POWER`: 1.645 + 0.842. */
const SETTLING_Z = 2.487
/** A smaller z gives no useful estimate of the number of examples. */
const LEAST_Z = 0.25

/**
 * Estimates how many more examples would settle a promising outcome. z grows with the square root of the
 * number of examples, if the new ones are answered as well as these.
 * @returns null if z is too small for an estimate
 */
export function examplesToSettle({ z }: JudgedAnswer, numExamples: number): number | null {
  if (z < LEAST_Z) return null
  return Math.max(1, Math.ceil(numExamples * ((SETTLING_Z / z) ** 2 - 1)))
}

/**
 * @returns the mean value of each group, in the order in which the groups first appear
 * @throws {RangeError} the lengths differ
 */
export function meanByGroup(values: readonly number[], groups: readonly number[]): number[] {
  if (groups.length !== values.length) {
    throw new RangeError(`${groups.length} groups for ${values.length} examples`)
  }
  const members = new Map<number, number[]>()
  values.forEach((value, i) => {
    const known = members.get(groups[i]!)
    if (known === undefined) members.set(groups[i]!, [value])
    else known.push(value)
  })
  return [...members.values()].map((own) => own.reduce((sum, value) => sum + value, 0) / own.length)
}
