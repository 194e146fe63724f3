/** Power of the guard's test, by real predictions that are diluted and resampled. */
import { GUARD_LEVEL } from '../../../adapters/guard/verdict.ts'
import { fitLabelBias } from '../../../adapters/objective/label-bias.ts'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { countFolds, stratifiedFolds } from '../../../adapters/optimise/gradient/folds.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { balancedGain } from '../../../adapters/statistics/balanced-gain.ts'
import { predictLabels } from '../../../adapters/statistics/classification.ts'
import { learntTest } from '../../../adapters/statistics/learnt-test.ts'
import type { JobRecord } from './jobs.ts'

/** Shares of the predictions that are replaced with another row's. */
const DILUTIONS = [0, 0.25, 0.5, 0.75, 1]
const NUMBERS_OF_EXAMPLES = [12, 20, 40, 100]
const NUM_DRAWS = 100
const STREAM = 33

export type PowerPoint = {
  readonly set: string
  readonly examples: number
  /** Balanced accuracy over the base model's, on all unseen rows. */
  readonly gain: number
  /** Share of the draws that are proven. */
  readonly power: number
}

/**
 * Takes each set's first job and its predictions for rows that it did not learn from. It replaces a
 * share of them by predictions for other rows, which lowers the true gain. Then it draws as many as
 * a job has examples, balanced over the labels, splits them into folds and judges them. These
 * predictions are independent, and those of a job's examples are not, for which the test allows; so
 * a job's power is a little higher.
 */
export function powerCurves(records: readonly JobRecord[]): PowerPoint[] {
  const firsts = new Map<string, JobRecord>()
  for (const record of records) {
    if (!record.isShuffled && !firsts.has(record.set)) firsts.set(record.set, record)
  }
  return [...firsts.values()].flatMap((record) =>
    DILUTIONS.flatMap((dilution) =>
      NUMBERS_OF_EXAMPLES.map((examples) => powerOf(record, dilution, examples)),
    ),
  )
}

function powerOf(
  { set, gold: trained, own, unseen: { gold, base, own: scores } }: JobRecord,
  dilution: number,
  examples: number,
): PowerPoint {
  const served = applyBias(scores, fitLabelBias(own, trained))
  const baseAnswers = predictLabels(base)
  const byLabel = [...Map.groupBy(gold.keys(), (i) => gold[i]!).values()]
  const rng = createRng(examples, STREAM, Math.round(100 * dilution))
  const pickOf = <T>(values: readonly T[]): T => values[Math.floor(rng.uniform() * values.length)]!
  let gain = 0
  let numProven = 0
  for (let draw = 0; draw < NUM_DRAWS; draw++) {
    const rows = Array.from({ length: examples }, (_, i) => pickOf(byLabel[i % byLabel.length]!))
    const predictions = rows.map((row) =>
      rng.uniform() < dilution ? pickOf(served) : served[row]!,
    )
    const labels = rows.map((row) => gold[row]!)
    const own = balancedGain(
      predictLabels(predictions),
      rows.map((row) => baseAnswers[row]!),
      labels,
    ).gain
    gain += own / NUM_DRAWS
    const numFolds = countFolds(rows.map((_, i) => i))
    const folds = stratifiedFolds(labels, numFolds, draw)
    if (own > 0 && learntTest(predictions, labels, folds).pValue <= GUARD_LEVEL) numProven += 1
  }
  return { set, examples, gain: Number(gain.toFixed(3)), power: numProven / NUM_DRAWS }
}
