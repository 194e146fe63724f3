/** The files that `npm run bench -- guard --results` writes. */
import type { TopLevelSpec } from 'vega-lite'
import { CHART_CONFIG, renderSvg } from '../results/chart.ts'
import { writeResults } from '../results/write.ts'
import { head, row } from '../tasks/table.ts'
import type { JobRecord } from './jobs.ts'
import type { PowerPoint } from './power.ts'
import type { KeptPartitions } from './repeats.ts'
import { judgeRecord, summarise, summarisePromises } from './verdicts.ts'

export async function writeGuardResults(
  folder: string,
  records: readonly JobRecord[],
  power: readonly PowerPoint[],
  kept: KeptPartitions,
): Promise<void> {
  const judged = records.map((record) => {
    const { outcome, answer, adapter, biasOnly, worth, numPartitions } = judgeRecord(
      record,
      'unseen',
      kept,
    )
    const { set, seed, rows: count, isShuffled, optimizer, seconds } = record
    return {
      ...{ set, seed, rows: count, shuffled: isShuffled, optimizer, seconds },
      ...{ outcome, answer, p_value: adapter.pValue, gain_out_of_fold: adapter.gain },
      ...{ bias_p_value: biasOnly.pValue, partitions: numPartitions, worth },
      ...(record.test === undefined
        ? {}
        : { worth_on_test: judgeRecord(record, 'test', kept).worth }),
    }
  })
  const tested = records.filter(({ test }) => test !== undefined)
  const ofTest =
    tested.length === 0
      ? []
      : [
          '## On test rows',
          '',
          'The same jobs and verdicts, their versions asked about test rows instead.',
          '',
          ...tableOf(summarisePromises(tested, 'test', kept)),
          '',
          ...tableOf(summarise(tested, 'test', kept)),
          '',
        ]
  const markdown = [
    '# The guard',
    '',
    "Jobs judged as the gateway judges them, each on examples that its folds left out; where the first division into folds leaves a doubt, by three divisions. `gain` is what the adapter is truly worth, published or not: its balanced accuracy less the base model's on validation rows that no job learnt from. Shuffled labels have nothing to do with their inputs, so whatever goes live there is an error.",
    '',
    '## What the guard promises',
    '',
    ...tableOf(summarisePromises(records, 'unseen', kept)),
    '',
    '## By set',
    '',
    ...tableOf(summarise(records, 'unseen', kept)),
    '',
    ...ofTest,
    '## Power',
    '',
    'How often a version of a given true gain in balanced accuracy is proven, by number of examples. The predictions are real ones of unseen rows; a share of them is swapped for those of other rows, which lowers the gain, and they are drawn anew 100 times.',
    '',
    '![Power](guard-power.svg)',
    '',
  ].join('\n')
  await writeResults(folder, {
    'guard.md': markdown,
    'guard.json': { jobs: judged, power },
    'guard-power.svg': await renderSvg(chartOf(power)),
  })
}

function tableOf(lines: readonly Record<string, string | number>[]): string[] {
  const names = [...new Set(lines.flatMap((line) => Object.keys(line)))]
  return [...head(names), ...lines.map((line) => row(names.map((name) => line[name] ?? '')))]
}

function chartOf(power: readonly PowerPoint[]): TopLevelSpec {
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    config: CHART_CONFIG,
    data: { values: power.map((point) => ({ ...point, examples: `${point.examples} examples` })) },
    facet: { field: 'set', type: 'nominal', title: null },
    columns: 4,
    spec: {
      width: 180,
      height: 160,
      mark: { type: 'line', point: { size: 24 }, strokeWidth: 2 },
      encoding: {
        x: { field: 'gain', type: 'quantitative', title: 'true gain in balanced accuracy' },
        y: {
          field: 'power',
          type: 'quantitative',
          title: 'share proven',
          scale: { domain: [0, 1] },
        },
        color: {
          field: 'examples',
          type: 'nominal',
          title: null,
          sort: ['12 examples', '20 examples', '40 examples', '100 examples'],
        },
      },
    },
  }
}
