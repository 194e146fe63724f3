import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
  logLoss,
  predictLabels,
  weightedF1,
} from '../../../adapters/statistics/classification.ts'
import type { JobFigures, Measured, Setting } from './store.ts'

export type Scores = {
  readonly accuracy: number
  readonly balanced_accuracy: number
  readonly weighted_f1: number
  /** Nats. */
  readonly log_loss: number
}

/** What is published of one set and seed: figures alone. */
export type Entry = Setting & {
  readonly num_test_rows: number
  readonly num_labels: number
  readonly scores: Readonly<Record<string, Scores>>
  readonly jobs: Readonly<Record<string, JobFigures>>
}

export function summarise({ gold, columns, jobs, ...setting }: Measured): Entry {
  return {
    ...setting,
    num_test_rows: gold.length,
    num_labels: Object.values(columns)[0]![0]!.length,
    scores: Object.fromEntries(
      Object.entries(columns).map(([name, logProbs]) => {
        const confusion = confusionMatrix(gold, predictLabels(logProbs), logProbs[0]!.length)
        const scores: Scores = {
          accuracy: round(accuracy(confusion)),
          balanced_accuracy: round(balancedAccuracy(confusion)),
          weighted_f1: round(weightedF1(confusion)),
          log_loss: round(logLoss(logProbs, gold)),
        }
        return [name, scores]
      }),
    ),
    jobs,
  }
}

/** Sets count alike, and seeds within a set. @returns null where an entry lacks the column */
export function meanOverSets(
  entries: readonly Entry[],
  column: string,
  metric: keyof Scores,
): number | null {
  if (entries.some(({ scores }) => !(column in scores))) return null
  const sets = [...Map.groupBy(entries, ({ set }) => set).values()]
  return mean(sets.map((own) => mean(own.map(({ scores }) => scores[column]![metric]))))
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Of n - 1; null for a single value. */
export function deviation(values: readonly number[]): number | null {
  if (values.length < 2) return null
  const center = mean(values)
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
  return Math.sqrt(squares / (values.length - 1))
}

export const round = (value: number): number => Number(value.toFixed(4))
