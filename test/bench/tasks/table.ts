import {
  balancedAccuracy,
  accuracy,
  confusionMatrix,
  logLoss,
  predictLabels,
  weightedF1,
} from '../../../adapters/statistics/classification.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import type { Measured } from './measure.ts'

const NUM_RESAMPLES = 1000

export type Scores = {
  readonly balanced_accuracy: number
  readonly accuracy: number
  readonly weighted_f1: number
  /** Nats. */
  readonly log_loss: number
}

/** What is kept of one set and seed. */
export type Entry = {
  readonly set: string
  readonly seed: number
  readonly num_test_rows: number
  readonly scores: Readonly<Record<string, Scores>>
  readonly jobs: Measured['jobs']
}

export function summarise({ set, seed, gold, columns, jobs }: Measured): Entry {
  return {
    set,
    seed,
    num_test_rows: gold.length,
    scores: Object.fromEntries(
      Object.entries(columns).map(([name, logProbs]) => {
        const confusion = confusionMatrix(gold, predictLabels(logProbs), logProbs[0]!.length)
        const scores: Scores = {
          balanced_accuracy: round(balancedAccuracy(confusion)),
          accuracy: round(accuracy(confusion)),
          weighted_f1: round(weightedF1(confusion)),
          log_loss: round(logLoss(logProbs, gold)),
        }
        return [name, scores]
      }),
    ),
    jobs,
  }
}

/** Mean balanced accuracy of a column less another's, paired, with a 95% interval. */
export type PairedDifference = {
  readonly column: string
  readonly against: string
  readonly difference: number
  readonly interval: readonly [number, number]
}

/**
 * Sets count alike, and seeds within a set. Test rows are drawn again within each label of a set, the
 * same for its seeds and for both columns (bootstrap, percentiles), so the interval is of the rows'
 * chance; the seeds' is in the table.
 */
export function pairedDifference(
  measured: readonly Measured[],
  column: string,
  against: string,
): PairedDifference {
  const sets = [...new Set(measured.map(({ set }) => set))].map((set) =>
    measured.filter((entry) => entry.set === set),
  )
  const hits = (entry: Measured, name: string): boolean[] =>
    predictLabels(entry.columns[name]!).map((label, i) => label === entry.gold[i])
  const pieces = sets.map((entries) => ({
    gold: entries[0]!.gold,
    gains: entries.map((entry) => {
      const [a, b] = [hits(entry, column), hits(entry, against)]
      return a.map((hit, i) => Number(hit) - Number(b[i]))
    }),
  }))
  const meanGain = (rowsOf: (set: number) => readonly number[][]): number =>
    mean(
      pieces.map(({ gains }, set) =>
        mean(gains.map((gain) => mean(rowsOf(set).map((rows) => mean(rows.map((i) => gain[i]!)))))),
      ),
    )
  const byLabel = pieces.map(({ gold }) =>
    [...new Set(gold)].map((label) => gold.flatMap((own, i) => (own === label ? [i] : []))),
  )
  const rng = createRng(0)
  const resampled = Array.from({ length: NUM_RESAMPLES }, () => {
    const drawn = byLabel.map((labels) =>
      labels.map((rows) => rows.map(() => rows[Math.floor(rng.uniform() * rows.length)]!)),
    )
    return meanGain((set) => drawn[set]!)
  }).sort((a, b) => a - b)
  return {
    column,
    against,
    difference: round(meanGain((set) => byLabel[set]!)),
    interval: [
      round(resampled[Math.floor(0.025 * NUM_RESAMPLES)]!),
      round(resampled[Math.ceil(0.975 * NUM_RESAMPLES) - 1]!),
    ],
  }
}

/** Balanced accuracy by set, mean of seeds, and the mean of sets; then seconds of the jobs. */
export function toMarkdown(
  entries: readonly Entry[],
  differences: readonly PairedDifference[],
  heading: string,
): string {
  const columns = [...new Set(entries.flatMap(({ scores }) => Object.keys(scores)))]
  const sets = [...new Set(entries.map(({ set }) => set))]
  const seedsOf = (set: string) => entries.filter((entry) => entry.set === set)
  const row = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`
  const table = (metric: keyof Scores): string[] => {
    const bySet = sets.map((set) =>
      columns.map((column) => mean(seedsOf(set).map(({ scores }) => scores[column]![metric]))),
    )
    return [
      row(['set', 'seeds', ...columns]),
      row(['set', 'seeds', ...columns].map(() => '---')),
      ...sets.map((set, i) => row([set, seedsOf(set).length, ...bySet[i]!.map(short)])),
      row(['**mean**', '', ...columns.map((_, k) => short(mean(bySet.map((cells) => cells[k]!))))]),
    ]
  }
  const optimisers = [...new Set(entries.flatMap(({ jobs }) => Object.keys(jobs)))]
  const jobRows = optimisers.map((name) => {
    const jobs = entries.flatMap(({ jobs: own }) => own[name] ?? [])
    const seconds = jobs.map((job) => job.seconds)
    const outcomes = [...new Set(jobs.map(({ outcome }) => outcome))]
      .map((outcome) => `${jobs.filter((job) => job.outcome === outcome).length} ${outcome}`)
      .join(', ')
    return row([name, mean(seconds).toFixed(1), Math.max(...seconds).toFixed(1), outcomes])
  })
  return [
    heading,
    '',
    '## Balanced accuracy',
    '',
    ...table('balanced_accuracy'),
    '',
    '## Weighted F1',
    '',
    ...table('weighted_f1'),
    '',
    '## Log loss, nats',
    '',
    ...table('log_loss'),
    '',
    '## Differences of mean balanced accuracy, paired over test rows, 95% interval',
    '',
    row(['column', 'against', 'difference', 'interval']),
    row(['---', '---', '---', '---']),
    ...differences.map(({ column, against, difference, interval }) =>
      row([column, against, short(difference), interval.map(short).join(' to ')]),
    ),
    '',
    '## Jobs',
    '',
    row(['optimizer', 'mean seconds', 'slowest', 'guard']),
    row(['---', '---', '---', '---']),
    ...jobRows,
    '',
  ].join('\n')
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
const round = (value: number): number => Number(value.toFixed(4))
const short = (value: number): string => value.toFixed(3)
