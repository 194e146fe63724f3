import { fitLabelBias } from '../objective/label-bias.ts'
import { applyBias, batchCalibration, type LabelLogProbs } from '../objective/label-log-probs.ts'
import { applyTemperature, fitTemperature } from '../objective/temperature.ts'

/** What a guard judges by: every example scored by candidates that were fitted without it. */
export type FoldScores = {
  /** Right label of each example. */
  readonly gold: readonly number[]
  /** Fold of each example, 0..folds-1. */
  readonly folds: readonly number[]
  /** The base model, [examples][labels]. */
  readonly base: LabelLogProbs
  /** Of each fold the candidate fitted to all other folds, [folds][examples][labels]. */
  readonly candidates: readonly LabelLogProbs[]
}

/** Predictions, [examples][labels], each by what was learnt without the example's fold. */
export type OutOfFold = {
  /** Nothing learnt. */
  readonly base: LabelLogProbs
  /** A bias from the other folds' inputs, not their labels. */
  readonly calibratedBase: LabelLogProbs
  /** A bias fitted to the other folds' labels, and a temperature. */
  readonly biasOnly: LabelLogProbs
  /** The other folds' candidate with its bias and a temperature. */
  readonly adapter: LabelLogProbs
  /** Temperatures that suit all out-of-fold predictions: what a version is served with. */
  readonly temperatures: { readonly biasOnly: number; readonly adapter: number }
}

/**
 * Answers every example by what was learnt without it: biases are fitted to the other folds,
 * temperatures to the other folds' own out-of-fold predictions.
 * @throws {RangeError} fewer than two folds, an empty one, or lengths that differ
 */
export function predictOutOfFold({ gold, folds, base, candidates }: FoldScores): OutOfFold {
  const numFolds = candidates.length
  if (numFolds < 2) throw new RangeError(`${numFolds} folds`)
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
