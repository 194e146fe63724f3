/**
 * What a job learns from twenty examples, measured through the product's own API: upload, jobs,
 * comparison of the base and every task on test rows, and what can be had without a job. Against the
 * server at ARCANA_BASE_URL with ARCANA_API_KEY, or one that is started for it.
 *
 * `--sets NAME,…` (ag_news), `--seeds 0,1,…` (0–4), `--optimizers NAME,…` (bo), `--trials N` (150),
 * `--rows N` (200), `--shots` for four-shot prompting, `--out FOLDER` for `tasks.json` and `tasks.md`.
 * With --out, sets and seeds that the folder has are not measured again, but read from its
 * `measured.jsonl`; that file holds predictions and belongs into no repository.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { measure, type Measured } from './tasks/measure.ts'
import { openService } from './tasks/service.ts'
import { readRows } from './tasks/sets.ts'
import { pairedDifference, summarise, toMarkdown, type Entry } from './tasks/table.ts'

/** What the first issue asks for, on ag_news by `bo`. */
const MIN_GAIN = 0.2
const MAX_JOB_SECONDS = 90

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: 'ag_news' },
      seeds: { type: 'string', default: '0,1,2,3,4' },
      optimizers: { type: 'string', default: 'bo' },
      trials: { type: 'string', default: '150' },
      rows: { type: 'string', default: '200' },
      shots: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  })
  const seeds = values.seeds.split(',').map(Number)
  const optimisers = values.optimizers.split(',')
  const kept = values.out === undefined ? null : path.join(values.out, 'measured.jsonl')
  if (values.out !== undefined) mkdirSync(values.out, { recursive: true })
  const measured = kept !== null && existsSync(kept) ? readMeasured(kept) : []
  const service = await openService()
  try {
    for (const set of values.sets.split(',')) {
      const train = readRows(set, 'train')
      const test = readRows(set, 'test', Number(values.rows))
      if (train === null || test === null) {
        console.log(`skipped: ../shared/data/${set} is not beside this checkout`)
        continue
      }
      for (const seed of seeds) {
        if (measured.some((entry) => entry.set === set && entry.seed === seed)) continue
        const entry = await measure(service.openai, {
          set,
          seed,
          optimisers,
          numTrials: Number(values.trials),
          train,
          test,
          hasShots: values.shots,
        })
        console.log(JSON.stringify(summarise(entry)))
        measured.push(entry)
        if (kept !== null) appendFileSync(kept, `${JSON.stringify(entry)}\n`)
      }
    }
  } finally {
    await service.stop()
  }
  if (measured.length === 0) return
  report(measured, values.out)
}

const readMeasured = (file: string): Measured[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Measured)

function report(measured: readonly Measured[], out: string | undefined): void {
  const entries = measured.map(summarise)
  // Columns that every set and seed has; the last optimiser is what the others are held against.
  const columns = Object.keys(entries[0]!.scores).filter((name) =>
    entries.every(({ scores }) => name in scores),
  )
  const best = columns.at(-1)!
  const differences = columns
    .filter((name) => name !== best)
    .map((name) => pairedDifference(measured, best, name))
  const markdown = toMarkdown(entries, differences, '# Tasks from twenty examples')
  console.log(markdown)
  if (entries.every(({ set, scores }) => set === 'ag_news' && 'bo' in scores)) {
    printFirstIssue(entries)
  }
  if (out === undefined) return
  writeFileSync(path.join(out, 'tasks.md'), markdown)
  writeFileSync(
    path.join(out, 'tasks.json'),
    `${JSON.stringify({ entries, differences }, null, 2)}\n`,
  )
}

function printFirstIssue(entries: readonly Entry[]): void {
  const gains = entries
    .map(({ scores }) => scores['bo']!.balanced_accuracy - scores['base']!.balanced_accuracy)
    .sort((a, b) => a - b)
  console.log(
    JSON.stringify({
      figure: 'median balanced accuracy of bo above base',
      value: Number(gains[Math.floor(gains.length / 2)]!.toFixed(4)),
      at_least: MIN_GAIN,
      slowest_job_seconds: Math.max(...entries.map(({ jobs }) => jobs['bo']!.seconds)),
      at_most_seconds: MAX_JOB_SECONDS,
    }),
  )
}
