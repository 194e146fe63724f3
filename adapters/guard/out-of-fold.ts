import { fitLabelBias } from '../objective/label-bias.ts'
import { applyBias, batchCalibration, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { applyTemperature, fitTemperature } from '../objective/temperature.ts'

/** Scores of every example under the base model and under each fold's candidate. */
export type FoldScores = {
  /** Right label of each example, [examples]. */
  readonly gold: readonly number[]
  /** Fold of each example, 0..folds-1, [examples]. */
  readonly folds: readonly number[]
  /** The base model, [examples][labels]. */
  readonly base: LabelLogProbs
  /** For each fold, the candidate that was fitted to all other folds, [folds][examples][labels]. */
  readonly candidates: readonly LabelLogProbs[]
}

/** Out-of-fold predictions, [examples][labels]: each comes from fits without the example's fold. */
export type OutOfFold = {
  /** The base model, without any fit. */
  readonly base: LabelLogProbs
  /** The base model with a bias from the other folds' inputs, without their labels. */
  readonly calibratedBase: LabelLogProbs
  /** The base model with a bias fitted to the other folds' labels, and a temperature. */
  readonly biasOnly: LabelLogProbs
  /** The candidate of the other folds with its bias, and a temperature. */
  readonly adapter: LabelLogProbs
  /** Temperatures fitted to all out-of-fold predictions; a version is served with its own. */
  readonly temperatures: { readonly biasOnly: number; readonly adapter: number }
}

/**
 * Predicts every example with fits that did not see it. Biases are fitted to the other folds, and
 * temperatures to the out-of-fold predictions of the other folds.
 * @throws {RangeError} fewer than two folds, an empty fold, or the lengths differ
 */
export function predictOutOfFold({ gold, folds, base, candidates }: FoldScores): OutOfFold {
  const numFolds = candidates.length
  if (numFolds < 2) throw new RangeError(`${numFolds} folds are fewer than two`)
  if (folds.length !== gold.length || base.length !== gold.length) {
    throw new RangeError(`${folds.length} folds and ${base.length} rows for ${gold.length} labels`)
  }
  const membersOf = (isIn: (fold: number) => boolean) =>
    folds.flatMap((fold, example) => (isIn(fold) ? [example] : []))
  const parts = candidates.map((_, fold) => ({
    held: membersOf((other) => other === fold),
    seen: membersOf((other) => other !== fold),
  }))
  const pick = <T>(values: readonly T[], members: readonly number[]) =>
    members.map((example) => values[example]!)

  const predict = (
    scoresOf: (fold: number) => LabelLogProbs,
    biasOf: (seen: LabelLogProbs, gold: readonly number[]) => readonly number[],
  ): LabelLogProbs => {
    const rows = new Array<readonly number[]>(gold.length)
    parts.forEach(({ held, seen }, fold) => {
      const scores = scoresOf(fold)
      const bias = biasOf(pick(scores, seen), pick(gold, seen))
      const answers = applyBias(pick(scores, held), bias)
      held.forEach((example, i) => {
        rows[example] = answers[i]!
      })
    })
    return rows
  }
  const tempered = (raw: LabelLogProbs): LabelLogProbs => {
    const rows = new Array<readonly number[]>(gold.length)
    for (const { held, seen } of parts) {
      const temperature = fitTemperature(pick(raw, seen), pick(gold, seen))
      const answers = applyTemperature(pick(raw, held), temperature)
      held.forEach((example, i) => {
        rows[example] = answers[i]!
      })
    }
    return rows
  }

  const biasOnly = predict(() => base, fitLabelBias)
  const adapter = predict((fold) => candidates[fold]!, fitLabelBias)
  return {
    base,
    calibratedBase: predict(() => base, batchCalibration),
    biasOnly: tempered(biasOnly),
    adapter: tempered(adapter),
    temperatures: {
      biasOnly: fitTemperature(biasOnly, gold),
      adapter: fitTemperature(adapter, gold),
    },
  }
}
