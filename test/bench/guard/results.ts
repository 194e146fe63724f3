/** What `npm run bench -- guard --out` leaves in docs/results. */
import type { TopLevelSpec } from 'vega-lite'
import { CHART_CONFIG, renderSvg } from '../results/chart.ts'
import { writeResults } from '../results/write.ts'
import { head, row } from '../tasks/table.ts'
import type { JobRecord } from './jobs.ts'
import type { PowerPoint } from './power.ts'
import { judgeRecord, summarise } from './verdicts.ts'

export async function writeGuardResults(
  folder: string,
  records: readonly JobRecord[],
  power: readonly PowerPoint[],
): Promise<void> {
  const jobs = summarise(records)
  const judged = records.map((record) => {
    const { outcome, answer, adapter, biasOnly, trueGain } = judgeRecord(record)
    const { set, seed, rows, isShuffled, optimizer, seconds } = record
    return {
      ...{ set, seed, rows, shuffled: isShuffled, optimizer, seconds },
      ...{ outcome, answer, p_value: adapter.pValue, against: adapter.against },
      ...{ gains: adapter.gains, bias_p_value: biasOnly.pValue, true_gain: trueGain },
    }
  })
  const names = Object.keys(jobs[0]!)
  const gains = [...new Set(power.map(({ gain }) => gain))]
  const lines = [...new Set(power.map(({ set, examples }) => `${set} ${examples}`))]
  const markdown = [
    '# The guard',
    '',
    'Jobs judged as the gateway judges them, each on examples that its folds left out. Shuffled labels have nothing to do with their inputs, so whatever is published of them is an error; `true_gain` is what the answer is worth on validation rows that no job learnt from, in nats below the base model’s log loss, and `published_and_worse` counts published answers for which that is below zero.',
    '',
    ...head(names),
    ...jobs.map((job) => row(names.map((name) => job[name]!))),
    '',
    '## Power',
    '',
    'How often an adapter of a given true gain over the labels’ frequencies passes the test. The differences between answers are real ones, of the rows of `unseen` above; they are moved so that their mean is the gain, and drawn anew 200 times.',
    '',
    '![Power](guard-power.svg)',
    '',
    ...head(['set, examples', ...gains.map((gain) => `${gain} nats`)]),
    ...lines.map((line) =>
      row([
        line,
        ...power
          .filter(({ set, examples }) => `${set} ${examples}` === line)
          .map((point) => point.power.toFixed(2)),
      ]),
    ),
    '',
  ].join('\n')
  await writeResults(folder, {
    'guard.md': markdown,
    'guard.json': { jobs: judged, power },
    'guard-power.svg': await renderSvg(chartOf(power)),
  })
}

function chartOf(power: readonly PowerPoint[]): TopLevelSpec {
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    config: CHART_CONFIG,
    data: { values: power.map((point) => ({ ...point, examples: `${point.examples} examples` })) },
    facet: { field: 'set', type: 'nominal', title: null },
    spec: {
      width: 220,
      height: 200,
      mark: { type: 'line', point: { size: 24 }, strokeWidth: 2 },
      encoding: {
        x: { field: 'gain', type: 'quantitative', title: 'true gain, nats' },
        y: {
          field: 'power',
          type: 'quantitative',
          title: 'share that passes',
          scale: { domain: [0, 1] },
        },
        color: {
          field: 'examples',
          type: 'nominal',
          title: null,
          sort: ['20 examples', '64 examples', '128 examples'],
        },
      },
    },
  }
}
