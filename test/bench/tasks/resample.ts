/**
 * Bootstrap intervals of mean balanced accuracies (percentiles). Test rows are drawn again within
 * each label of a set, the same rows for all its seeds and columns. The intervals cover the chance
 * of the rows; the table shows that of the seeds.
 */
import { predictLabels } from '../../../adapters/statistics/classification.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import type { Measured } from './store.ts'
import { mean, round } from './summary.ts'

const NUM_RESAMPLES = 2000
/** One-sided, of all columns of a set together. */
const CHANCE_LEVEL = 0.05

/** Mean balanced accuracy of a column less another's, paired, with a 95% interval. */
export type PairedDifference = {
  readonly column: string
  readonly against: string
  readonly difference: number
  readonly interval: readonly [number, number]
}

/** Sets count alike, and seeds within a set. */
export function pairedDifference(
  measured: readonly Measured[],
  column: string,
  against: string,
): PairedDifference {
  const pieces = bySet(measured).map((entries) => ({
    gold: entries[0]!.gold,
    gains: meanOfSeeds(
      entries.map((entry) => {
        const [a, b] = [hits(entry, column), hits(entry, against)]
        return a.map((hit, i) => hit - b[i]!)
      }),
    ),
  }))
  const { value, resampled } = resample(pieces)
  return {
    column,
    against,
    difference: round(value),
    interval: [round(quantile(resampled, 0.025)), round(quantile(resampled, 0.975))],
  }
}

/**
 * The columns that answer a set better than chance, at 5% shared by all of them.
 * @param entries one set's seeds
 */
export function columnsAboveChance(
  entries: readonly Measured[],
  columns: readonly string[],
): string[] {
  const [{ gold }] = entries as [Measured]
  const numLabels = Object.values(entries[0]!.columns)[0]![0]!.length
  return columns.filter((column) => {
    const gains = meanOfSeeds(entries.map((entry) => hits(entry, column)))
    const { resampled } = resample([{ gold, gains }])
    return quantile(resampled, CHANCE_LEVEL / columns.length) > 1 / numLabels
  })
}

export const bySet = (measured: readonly Measured[]): Measured[][] => [
  ...Map.groupBy(measured, ({ set }) => set).values(),
]

const hits = (entry: Measured, column: string): number[] =>
  predictLabels(entry.columns[column]!).map((label, i) => Number(label === entry.gold[i]))

const meanOfSeeds = (rows: readonly (readonly number[])[]): number[] =>
  rows[0]!.map((_, i) => mean(rows.map((own) => own[i]!)))

/** The mean over sets of the mean over labels of the rows' values: once as is, and drawn again. */
function resample(
  pieces: readonly { readonly gold: readonly number[]; readonly gains: readonly number[] }[],
): { readonly value: number; readonly resampled: readonly number[] } {
  const labels = pieces.map(({ gold, gains }) =>
    [...Map.groupBy(gains.keys(), (i) => gold[i]!).values()].map((rows) =>
      rows.map((i) => gains[i]!),
    ),
  )
  const rng = createRng(0)
  const again = (values: readonly number[]): number => {
    let sum = 0
    for (let i = 0; i < values.length; i++)
      sum += values[Math.floor(rng.uniform() * values.length)]!
    return sum / values.length
  }
  return {
    value: mean(labels.map((own) => mean(own.map(mean)))),
    resampled: Array.from({ length: NUM_RESAMPLES }, () =>
      mean(labels.map((own) => mean(own.map(again)))),
    ).sort((a, b) => a - b),
  }
}

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
