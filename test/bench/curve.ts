/**
 * Measures accuracy over the number of examples, from 4 to 128, for each optimiser and baseline. It
 * uses the product's own API, as `tasks` does.
 *
 * `--sets NAME,…` (ag_news,sst2,sms_spam), `--seeds 0,1,…` (0,1,2), `--sizes N,…` (4,8,…,128),
 * `--optimizers NAME,…` (gradient), `--trials N` (150) of those that search, `--split NAME`
 * (validation), `--rows N` (300), `--kept FOLDER` (.arcana/bench/measured, shared with `tasks`),
 * `--out FOLDER` for `curve.json`, `curve.md` and `curve.svg`.
 */
import { parseArgs } from 'node:util'
import type { TopLevelSpec } from 'vega-lite'
import { CHART_CONFIG, renderSvg } from './results/chart.ts'
import { writeResults } from './results/write.ts'
import { measureMissing } from './tasks.ts'
import { DEFAULT_KEPT, Store, type Setting } from './tasks/store.ts'
import { deviation, mean, round, summarise, type Entry } from './tasks/summary.ts'
import { head, row, short } from './tasks/table.ts'

const BASELINES = ['base', 'probe']
const PANEL = { width: 240, height: 220 }

/** One set, column and number of examples over all seeds. */
type Point = {
  readonly set: string
  readonly column: string
  /** The requested number; balanced over labels there may be fewer. */
  readonly examples: number
  readonly seeds: number
  readonly balanced_accuracy: number
  readonly lowest: number
  readonly highest: number
  readonly deviation: number | null
  readonly log_loss: number
  /** Null for a column without a job. */
  readonly job_seconds: number | null
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: 'ag_news,sst2,sms_spam' },
      seeds: { type: 'string', default: '0,1,2' },
      sizes: { type: 'string', default: '4,8,16,32,64,128' },
      optimizers: { type: 'string', default: 'gradient' },
      trials: { type: 'string', default: '150' },
      split: { type: 'string', default: 'validation' },
      rows: { type: 'string', default: '300' },
      kept: { type: 'string', default: DEFAULT_KEPT },
      out: { type: 'string' },
    },
  })
  const columns = [...BASELINES, ...values.optimizers.split(',')]
  const sizes = values.sizes.split(',').map(Number)
  const settings = values.sets.split(',').flatMap((set) =>
    values.seeds.split(',').flatMap((seed) =>
      sizes.map((num_train): Setting => ({
        set,
        seed: Number(seed),
        split: values.split,
        num_rows: Number(values.rows),
        num_train,
      })),
    ),
  )
  const store = new Store(values.kept)
  const numMissing = await measureMissing(settings, columns, Number(values.trials), store)
  const entries = settings.flatMap((setting) => store.get(setting) ?? []).map(summarise)
  if (entries.length > 0) await report(entries, columns, values.out)
  if (numMissing > 0) {
    console.error(`${numMissing} columns could not be measured; run again for them alone`)
    process.exitCode = 1
  }
}

async function report(
  entries: readonly Entry[],
  columns: readonly string[],
  out: string | undefined,
): Promise<void> {
  const groups = Map.groupBy(entries, ({ set, num_train }) => JSON.stringify([set, num_train]))
  const points = [...groups.values()].flatMap((own) =>
    columns.flatMap((column) => pointOf(own, column)),
  )
  const markdown = toMarkdown(entries[0]!, points)
  console.log(markdown)
  if (out === undefined) return
  const { split, num_rows } = entries[0]!
  await writeResults(out, {
    'curve.md': markdown,
    'curve.json': { split, num_rows, points },
    'curve.svg': await renderSvg(chartOf(points, columns)),
  })
}

function pointOf(entries: readonly Entry[], column: string): Point[] {
  const own = entries.filter(({ scores }) => column in scores)
  if (own.length === 0) return []
  const values = own.map(({ scores }) => scores[column]!.balanced_accuracy)
  const seconds = own.flatMap(({ jobs }) => jobs[column]?.seconds ?? [])
  const spread = deviation(values)
  return [
    {
      set: own[0]!.set,
      column,
      examples: own[0]!.num_train,
      seeds: own.length,
      balanced_accuracy: round(mean(values)),
      lowest: Math.min(...values),
      highest: Math.max(...values),
      deviation: spread === null ? null : round(spread),
      log_loss: round(mean(own.map(({ scores }) => scores[column]!.log_loss))),
      job_seconds: seconds.length === 0 ? null : round(mean(seconds)),
    },
  ]
}

function toMarkdown({ split, num_rows }: Entry, points: readonly Point[]): string {
  const sizes = [...new Set(points.map(({ examples }) => examples))].sort((a, b) => a - b)
  const sets = Map.groupBy(points, ({ set }) => set)
  const table = (own: readonly Point[], value: (point: Point) => string): string[] => [
    ...head(['column', ...sizes.map(String)]),
    ...[...Map.groupBy(own, ({ column }) => column)].map(([column, line]) =>
      row([
        column,
        ...sizes.map((size) => {
          const point = line.find(({ examples }) => examples === size)
          return point === undefined ? '' : value(point)
        }),
      ]),
    ),
    '',
  ]
  return [
    '# Learning curve',
    '',
    `Balanced accuracy on the first ${num_rows} rows of each set’s ${split} split by the number of training examples (balanced over labels), mean of seeds ± their standard deviation; the picture’s bands reach from the lowest seed to the highest.`,
    '',
    '![Learning curve](curve.svg)',
    '',
    ...[...sets].flatMap(([set, own]) => [
      `## ${set}`,
      '',
      ...table(own, ({ balanced_accuracy: value, deviation: spread }) =>
        spread === null ? short(value) : `${short(value)} ± ${short(spread)}`,
      ),
      'Seconds of a job:',
      '',
      ...table(
        own.filter(({ job_seconds: seconds }) => seconds !== null),
        ({ job_seconds: seconds }) => seconds!.toFixed(1),
      ),
    ]),
  ].join('\n')
}

function chartOf(points: readonly Point[], columns: readonly string[]): TopLevelSpec {
  const sizes = [...new Set(points.map(({ examples }) => examples))].sort((a, b) => a - b)
  const x = {
    field: 'examples',
    type: 'quantitative',
    title: 'training examples',
    scale: { type: 'log', base: 2 },
    axis: { values: sizes, grid: false, labelFlush: false },
  } as const
  const sets = [...new Set(points.map(({ set }) => set))]
  const color = {
    field: 'column',
    type: 'nominal',
    sort: [...columns],
    title: null,
    legend: { symbolOpacity: 1 },
  } as const
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    config: CHART_CONFIG,
    data: { values: points.map((point) => ({ ...point })) },
    facet: { column: { field: 'set', type: 'nominal', title: null, sort: sets } },
    spec: {
      ...PANEL,
      layer: [
        {
          mark: { type: 'area', opacity: 0.12 },
          encoding: {
            x,
            y: { field: 'lowest', type: 'quantitative' },
            y2: { field: 'highest' },
            color,
          },
        },
        {
          mark: { type: 'line', point: { size: 28 }, strokeWidth: 2 },
          encoding: {
            x,
            y: {
              field: 'balanced_accuracy',
              type: 'quantitative',
              title: 'balanced accuracy',
              scale: { zero: false },
            },
            color,
          },
        },
      ],
    },
  }
}
