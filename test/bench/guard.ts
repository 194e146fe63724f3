/**
 * How often the guard publishes: jobs on rows of ../shared/data, through the real scorer in this
 * process. Labels are shuffled, so that whatever is published is an error; with `--labels true` they
 * are right, and what is not published is a gain missed. Every job's log probabilities are appended to
 * a file, from which `--judge` judges them again, without the model.
 *
 * `--sets A,B` (ag_news), `--jobs N` (20) of each, `--first N` (0) the first job's seed, `--rows N`
 * (20) to learn from, `--unseen N` (60) validation rows that say what an adapter is truly worth,
 * `--labels shuffled|true`, `--budget N` seconds of `auto` (without it one fit by `gradient`),
 * `--seconds N` (280) after which no further job begins, `--out FILE` (.arcana/bench/guard.jsonl),
 * `--judge` to judge that file's jobs alone, `--results FOLDER` to write them there, with how often a
 * gain of so many nats would be seen
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openTestRunner } from '../fixtures/runner.ts'
import { runJob, type JobRecord } from './guard/jobs.ts'
import { powerCurves } from './guard/power.ts'
import { writeGuardResults } from './guard/results.ts'
import { judgeRecord, summarise } from './guard/verdicts.ts'
import { drawBalanced } from './tasks/draw.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const SCORE_CACHE_BYTES = 4 * 2 ** 30

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: 'ag_news' },
      jobs: { type: 'string', default: '20' },
      first: { type: 'string', default: '0' },
      rows: { type: 'string', default: '20' },
      unseen: { type: 'string', default: '60' },
      labels: { type: 'string', default: 'shuffled' },
      budget: { type: 'string' },
      seconds: { type: 'string', default: '280' },
      out: { type: 'string', default: '.arcana/bench/guard.jsonl' },
      judge: { type: 'boolean', default: false },
      results: { type: 'string' },
    },
  })
  if (!values.judge) await collect(values)
  const lines = (await readFile(values.out, 'utf8')).trim().split('\n')
  const records = lines.map((line) => JSON.parse(line) as JobRecord)
  console.table(summarise(records))
  if (values.results !== undefined) {
    await writeGuardResults(values.results, records, powerCurves(records))
  }
}

async function collect(values: {
  readonly sets: string
  readonly jobs: string
  readonly first: string
  readonly rows: string
  readonly unseen: string
  readonly labels: string
  readonly budget?: string | undefined
  readonly seconds: string
  readonly out: string
}): Promise<void> {
  const endMs = performance.now() + 1000 * Number(values.seconds)
  await mkdir(path.dirname(values.out), { recursive: true })
  const runner = await openTestRunner({ scoreCacheBytes: SCORE_CACHE_BYTES })
  try {
    for (let i = 0; i < Number(values.jobs); i++) {
      for (const set of values.sets.split(',')) {
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
          isShuffled: values.labels === 'shuffled',
          budgetSeconds: values.budget === undefined ? null : Number(values.budget),
        })
        await appendFile(values.out, `${JSON.stringify(record)}\n`)
        const { outcome, answer, adapter, trueGain } = judgeRecord(record)
        const { seconds } = record
        const figures = { p: round(adapter.pValue), gain: round(adapter.gain), seconds }
        console.log(
          JSON.stringify({ set, seed, outcome, answer, ...figures, true_gain: round(trueGain) }),
        )
      }
    }
  } finally {
    await runner.release()
  }
}

const round = (value: number): number => Math.round(value * 1000) / 1000
