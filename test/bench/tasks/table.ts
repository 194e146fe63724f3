import type { PairedDifference } from './resample.ts'
import { deviation, mean, meanOverSets, type Entry, type Scores } from './summary.ts'

export const METRICS: readonly (readonly [keyof Scores, string])[] = [
  ['balanced_accuracy', 'Balanced accuracy'],
  ['accuracy', 'Accuracy'],
  ['weighted_f1', 'Weighted F1'],
  ['log_loss', 'Log loss, nats'],
]
const AT_CHANCE_MARK = ' ⁰'

/** What each column is, in a few words. */
const MEANING: Readonly<Record<string, string>> = {
  base: 'the base model under the task’s instructions',
  calibrated:
    'base less each label’s mean log probability on the training inputs (batch calibration)',
  logistic: 'logistic regression on the base model’s label log probabilities',
  probe: 'linear probe: logistic regression (C = 0.1, standardised) on the last hidden state',
  shots: 'base with four of the training rows in the prompt',
  lora: 'LoRA of rank 4 by PEFT, its settings chosen by the same folds',
}

export const row = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`
export const head = (cells: readonly string[]): string[] => [
  row(cells),
  row(cells.map(() => '---')),
]
export const short = (value: number | undefined): string =>
  value === undefined ? '' : value.toFixed(3)

export type Tables = {
  readonly entries: readonly Entry[]
  readonly columns: readonly string[]
  /** Columns that some set or seed lacks: shown, and left out of means and differences. */
  readonly incomplete: readonly string[]
  readonly differences: readonly PairedDifference[]
  /** Of each set the columns that answer it better than chance. */
  readonly aboveChance: ReadonlyMap<string, readonly string[]>
}

/** Means of seeds by set and of sets, then differences, then jobs. */
export function toMarkdown(tables: Tables): string {
  const { entries, columns, incomplete, differences, aboveChance } = tables
  const atChance = new Set(
    [...aboveChance].filter(([, own]) => own.length === 0).map(([set]) => set),
  )
  const sets = [...new Set(entries.map(({ set }) => set))]
  const seedsOf = (set: string) => entries.filter((entry) => entry.set === set)
  const [first] = entries as [Entry]
  const table = (metric: keyof Scores): string[] => {
    // Empty where a seed lacks the column: a mean of fewer seeds would be held against its neighbours'.
    const meanOf = (own: readonly Entry[], column: string) =>
      short(meanOverSets(own, column, metric) ?? undefined)
    return [
      ...head(['set', 'seeds', ...columns]),
      ...sets.map((set) =>
        row([
          `${set}${atChance.has(set) ? AT_CHANCE_MARK : ''}`,
          seedsOf(set).length,
          ...columns.map((column) => meanOf(seedsOf(set), column)),
        ]),
      ),
      row(['**mean**', '', ...columns.map((column) => meanOf(entries, column))]),
    ]
  }
  return [
    '# Tasks from twenty examples',
    '',
    `At most ${first.num_train} training rows, balanced over labels; the first ${first.num_rows} rows of each set’s ${first.split} split. Cells are means over seeds. Every seed’s own figures: [tasks-by-seed.md](tasks-by-seed.md); all in [tasks.json](tasks.json).`,
    '',
    ...columns.map((column) => `- \`${column}\`: ${MEANING[column] ?? 'the job’s optimizer'}`),
    '',
    ...(atChance.size === 0
      ? ['Every set is answered better than chance by some column.']
      : [
          `**The base model knows nothing of ${[...atChance].join(', ')}** (marked${AT_CHANCE_MARK}): no column is above chance there. Differences between columns mean nothing on such a set.`,
        ]),
    ...(incomplete.length === 0
      ? []
      : ['', `Not measured on every set and seed, so without a mean: ${incomplete.join(', ')}.`]),
    '',
    ...METRICS.flatMap(([metric, title]) => [`## ${title}`, '', ...table(metric), '']),
    '## Above chance',
    '',
    'Balanced accuracy above 1 / labels: one-sided test over rows, the mean of seeds, at 5% shared by the columns.',
    '',
    ...head(['set', 'columns']),
    ...[...aboveChance].map(([set, own]) => row([set, own.join(', ') || 'none'])),
    '',
    '## Differences of mean balanced accuracy',
    '',
    'Paired over test rows, 95% interval (bootstrap within labels; sets count alike).',
    '',
    ...head(['column', 'against', 'difference', 'interval']),
    ...differences.map(({ column, against, difference, interval }) =>
      row([column, against, short(difference), interval.map(short).join(' to ')]),
    ),
    '',
    '## Jobs',
    '',
    'Seconds from the request to the published version, as a client sees them.',
    '',
    ...head(['column', 'jobs', 'mean seconds', 'slowest', 'mean trials', 'guard']),
    ...jobRows(entries),
    '',
  ].join('\n')
}

function jobRows(entries: readonly Entry[]): string[] {
  const names = [...new Set(entries.flatMap(({ jobs }) => Object.keys(jobs)))]
  return names.map((name) => {
    const jobs = entries.flatMap(({ jobs: own }) => own[name] ?? [])
    const seconds = jobs.map((job) => job.seconds)
    const outcomes = [...Map.groupBy(jobs, ({ outcome }) => outcome ?? 'not judged')]
      .map(([outcome, own]) => `${own.length} ${outcome}`)
      .join(', ')
    return row([
      name,
      jobs.length,
      mean(seconds).toFixed(1),
      Math.max(...seconds).toFixed(1),
      mean(jobs.map(({ trials }) => trials)).toFixed(0),
      outcomes,
    ])
  })
}

/** Every set, seed and column, and how far apart the seeds are. */
export function bySeedMarkdown({ entries, columns }: Tables): string {
  const sets = [...new Set(entries.map(({ set }) => set))]
  const cells = (entry: Entry, column: string): string[] => {
    const scores = entry.scores[column]
    if (scores === undefined) return []
    const job = entry.jobs[column]
    return [
      row([
        entry.seed,
        column,
        short(scores.accuracy),
        short(scores.balanced_accuracy),
        short(scores.weighted_f1),
        short(scores.log_loss),
        job?.seconds ?? '',
        job?.trials ?? '',
      ]),
    ]
  }
  const titles = [
    'seed',
    'column',
    'accuracy',
    'balanced',
    'weighted F1',
    'log loss',
    'job s',
    'trials',
  ]
  const spread = (own: readonly Entry[], column: string): string => {
    const values = own.flatMap(({ scores }) => scores[column]?.balanced_accuracy ?? [])
    return `${column} ${short(deviation(values) ?? undefined) || '–'}`
  }
  return [
    '# Tasks from twenty examples: every seed',
    '',
    ...sets.flatMap((set) => {
      const own = entries.filter((entry) => entry.set === set)
      return [
        `## ${set}`,
        '',
        `${own[0]!.num_test_rows} ${own[0]!.split} rows, ${own[0]!.num_labels} labels. Standard deviation of balanced accuracy over seeds: ${columns.map((column) => spread(own, column)).join(', ')}.`,
        '',
        ...head(titles),
        ...own.flatMap((entry) => columns.flatMap((column) => cells(entry, column))),
        '',
      ]
    }),
  ].join('\n')
}
