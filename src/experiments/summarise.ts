import { accuracyDifferenceInterval } from '../../adapters/statistics/bootstrap.ts'
import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
} from '../../adapters/statistics/classification.ts'
import { holmAdjust, mcnemarTest } from '../../adapters/statistics/mcnemar.ts'
import type { ArmDifference, ExperimentArm, ExperimentRow } from '../protocol/arcana/experiment.ts'

type Figures = Pick<
  ExperimentArm,
  'accuracy' | 'balanced_accuracy' | 'confusion' | 'against_first' | 'summary'
>

/** Above this p-value a difference may be chance. */
const LEVEL = 0.05

/**
 * What the rows show of each arm.
 * @param rows at least one; `answers` [arms]
 * @param labels all that a row or an answer may have
 * @param names the caller's texts for the arms
 * @param numSeen rows that an arm's versions learnt from, [arms]
 */
export function summariseArms(
  rows: readonly ExperimentRow[],
  labels: readonly string[],
  names: readonly string[],
  numSeen: readonly number[],
): Figures[] {
  const gold = rows.map(({ label }) => labels.indexOf(label))
  const differences = names.map((_, arm) => differenceOf(rows, arm))
  const adjusted = holmAdjust(differences.slice(1).map(({ p_value: p }) => p))
  return names.map((name, arm) => {
    const predicted = rows.map(({ answers }) => labels.indexOf(answers[arm]!))
    const matrix = confusionMatrix(gold, predicted, labels.length)
    const numRight = rows.filter((row) => isRight(row, arm)).length
    const against =
      arm === 0 ? null : { ...differences[arm]!, adjusted_p_value: adjusted[arm - 1]! }
    return {
      accuracy: accuracy(matrix),
      balanced_accuracy: balancedAccuracy(matrix),
      confusion: matrix,
      against_first: against,
      summary: summaryOf(
        { name, numRight, numRows: rows.length, numSeen: numSeen[arm]! },
        against,
        names[0]!,
      ),
    }
  })
}

const isRight = ({ label, answers }: ExperimentRow, arm: number): boolean => answers[arm] === label

function differenceOf(
  rows: readonly ExperimentRow[],
  arm: number,
): Omit<ArmDifference, 'adjusted_p_value'> {
  const linesOf = (better: number, worse: number) =>
    rows.filter((row) => isRight(row, better) && !isRight(row, worse)).map(({ line }) => line)
  const won = linesOf(arm, 0)
  const lost = linesOf(0, arm)
  return {
    difference: (won.length - lost.length) / rows.length,
    interval: accuracyDifferenceInterval(won.length, lost.length, rows.length),
    p_value: mcnemarTest(won.length, lost.length),
    won,
    lost,
  }
}

function summaryOf(
  arm: {
    readonly name: string
    readonly numRight: number
    readonly numRows: number
    readonly numSeen: number
  },
  against: ArmDifference | null,
  first: string,
): string {
  const sentences = [`"${arm.name}" answers ${arm.numRight} of ${arm.numRows} rows right.`]
  if (against !== null) sentences.push(...compare(arm.name, against, first))
  if (arm.numSeen > 0) {
    sentences.push(
      `It learnt from ${arm.numSeen} of these rows, so the figure says little about rows that it has ` +
        'not seen.',
    )
  }
  return sentences.join(' ')
}

function compare(name: string, against: ArmDifference, first: string): string[] {
  const { difference, interval, adjusted_p_value: p, won, lost } = against
  if (interval === null) return [`They are the same rows as "${first}" answers right.`]
  const [low, high] = interval.map(toPoints) as [string, string]
  const pText = p < 0.001 ? 'p < .001' : `p = ${p.toFixed(3).replace(/^0/, '')}`
  return [
    `${won.length} of them "${first}" answers wrong; "${first}" answers ${lost.length} right that it does not.`,
    `The difference is ${toPoints(difference)} points (95% interval ${low} to ${high}; ${pText}).`,
    p > LEVEL
      ? 'This may be chance: the file does not show which is better.'
      : `"${difference > 0 ? name : first}" is better on such rows.`,
  ]
}

function toPoints(share: number): string {
  const points = (100 * share).toFixed(1).replace(/\.0$/, '')
  return share > 0 ? `+${points}` : points.replace('-', '−')
}
