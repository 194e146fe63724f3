/**
 * Measures the guard's verdicts. It runs jobs on rows of ../shared/data through the real scorer in
 * this process, and measures each job's adapter on rows that the job did not learn from, whatever
 * the verdict. With right labels (the default) a helpful adapter that is not proven is a missed
 * gain; with `--labels shuffled` everything that goes live is an error.
 * Every job's log probabilities are appended to a file, from which `--judge` judges them again, without
 * the model.
 *
 * `--sets A,B` (the twelve), `--jobs N` (5) of each, `--first N` (0) the first job's seed, `--rows N`
 * (20) to learn from, `--unseen N` (300) validation rows that say what an adapter is truly worth,
 * `--with-test` scores as many test rows too, for the final figures, `--labels true|shuffled`,
 * `--budget N` (40) seconds of `auto`; 0 is one fit by `gradient`, `--seconds N` (280) after which no
 * further job begins, `--out FILE` (.arcana/bench/guard.jsonl), `--repeats FILE`
 * (.arcana/bench/guard-repeats.jsonl) to which further partitions of the file's jobs are appended where
 * the guard asks for them, `--judge` to judge the files' jobs alone, `--split validation|test` the rows to judge on, `--results FOLDER` to write the tables there
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openTestRunner } from '../fixtures/runner.ts'
import { runJob, type JobRecord, type Partition } from './guard/jobs.ts'
import { powerCurves } from './guard/power.ts'
import { fitRepeats, KeptPartitions } from './guard/repeats.ts'
import { writeGuardResults } from './guard/results.ts'
import { judgeRecord, summarise, summarisePromises, type Rows } from './guard/verdicts.ts'
import { drawBalanced } from './tasks/draw.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const SCORE_CACHE_BYTES = 4 * 2 ** 30

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: Object.keys(TASK_SETS).join(',') },
      jobs: { type: 'string', default: '5' },
      first: { type: 'string', default: '0' },
      rows: { type: 'string', default: '20' },
      unseen: { type: 'string', default: '300' },
      'with-test': { type: 'boolean', default: false },
      labels: { type: 'string', default: 'true' },
      budget: { type: 'string', default: '40' },
      seconds: { type: 'string', default: '280' },
      out: { type: 'string', default: '.arcana/bench/guard.jsonl' },
      repeats: { type: 'string', default: '.arcana/bench/guard-repeats.jsonl' },
      judge: { type: 'boolean', default: false },
      split: { type: 'string', default: 'validation' },
      results: { type: 'string' },
    },
  })
  const kept = new KeptPartitions(await readLines<Partition>(values.repeats))
  if (!values.judge) await collect({ ...values, kept })
  const records = await readLines<JobRecord>(values.out)
  const rows: Rows = values.split === 'test' ? 'test' : 'unseen'
  console.table(summarise(records, rows, kept))
  console.table(summarisePromises(records, rows, kept))
  if (values.results !== undefined) {
    await writeGuardResults(values.results, records, powerCurves(records), kept)
  }
}

async function collect(values: {
  readonly sets: string
  readonly jobs: string
  readonly first: string
  readonly rows: string
  readonly unseen: string
  readonly 'with-test': boolean
  readonly labels: string
  readonly budget: string
  readonly seconds: string
  readonly out: string
  readonly repeats: string
  readonly kept: KeptPartitions
}): Promise<void> {
  const endMs = performance.now() + 1000 * Number(values.seconds)
  await mkdir(path.dirname(values.out), { recursive: true })
  await mkdir(path.dirname(values.repeats), { recursive: true })
  const runner = await openTestRunner({ scoreCacheBytes: SCORE_CACHE_BYTES })
  const { kept, repeats: out } = values
  const repeat = (job: JobRecord) => fitRepeats(runner, job, judgeRecord(job), { kept, out })
  try {
    for (const job of await readLines<JobRecord>(values.out)) {
      if (performance.now() > endMs) return
      await repeat(job)
    }
    // A set's jobs one after the other: the prompts of its unseen rows are computed once.
    for (const set of values.sets.split(',')) {
      for (let i = 0; i < Number(values.jobs); i++) {
        if (performance.now() > endMs) return
        const train = readRows(set, 'train')
        const unseen = readRows(set, 'validation', Number(values.unseen))
        if (train === null || unseen === null) {
          console.log(JSON.stringify({ set, skipped: 'there is no ../shared/data here' }))
          return
        }
        const seed = Number(values.first) + i
        const words = Object.values(TASK_SETS[set]!.words)
        const record = await runJob(runner, {
          set,
          seed,
          train: drawBalanced(train, words, seed, Number(values.rows)),
          unseen,
          test: values['with-test'] ? readRows(set, 'test', Number(values.unseen)) : null,
          isShuffled: values.labels === 'shuffled',
          budgetSeconds: Number(values.budget) === 0 ? null : Number(values.budget),
        })
        await appendFile(values.out, `${JSON.stringify(record)}\n`)
        await repeat(record)
        const { outcome, answer, adapter, worth } = judgeRecord(record, 'unseen', kept)
        const figures = { p: round(adapter.pValue), gain: round(adapter.gain) }
        const { seconds } = record
        const line = { set, seed, outcome, answer, ...figures, seconds }
        console.log(JSON.stringify({ ...line, true_gain: round(worth.forcedGain) }))
      }
    }
  } finally {
    await runner.release()
  }
}

const round = (value: number): number => Math.round(value * 1000) / 1000

/** The values of a file's lines; none if there is no file. */
async function readLines<T>(file: string): Promise<T[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)
}
