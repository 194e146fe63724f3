/**
 * Would the guard see more with out-of-fold predictions of several partitions? A job's examples are
 * fitted again by `gradient`, in five other folds and in ten. Each partition's predictions are
 * centred in its folds and clipped as the guard's test does it, then averaged over the partitions; the
 * labels are permuted among all examples. The jobs themselves are those that
 * `npm run bench -- guard` kept.
 *
 * `--labels true|shuffled` (true): the versions that gain .25 or more on unseen rows, or the jobs with
 * shuffled labels; `--seconds N` (280) after which no further fit begins, `--out FILE`
 * (.arcana/bench/guard-repeats.jsonl) to which fits are appended, `--judge` to judge that file alone
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { GUARD_LEVEL } from '../../adapters/guard/verdict.ts'
import { LOG_PROB_FLOOR } from '../../adapters/objective/label-log-probs.ts'
import { learntTest } from '../../adapters/statistics/learnt-test.ts'
import { openTestRunner } from '../fixtures/runner.ts'
import { runPartition, type JobRecord, type Partition } from './guard/jobs.ts'
import { judgeRecord, type Rows } from './guard/verdicts.ts'
import { drawBalanced } from './tasks/draw.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const JOBS = new URL('../../docs/results/measured/guard/jobs.jsonl', import.meta.url)
const LARGE_GAIN = 0.25
/** As in learnt-test.ts. */
const MAX_LOG_ODDS = 2
/** Added to the job's seed, with the number of folds. */
const PARTITIONS = [
  [1000, 5],
  [2000, 10],
] as const

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      labels: { type: 'string', default: 'true' },
      rows: { type: 'string', default: '20' },
      seconds: { type: 'string', default: '280' },
      out: { type: 'string', default: '.arcana/bench/guard-repeats.jsonl' },
      judge: { type: 'boolean', default: false },
    },
  })
  const isShuffled = values.labels === 'shuffled'
  const jobs = readLines<JobRecord>(await readFile(JOBS, 'utf8')).filter(
    (job) => job.rows === Number(values.rows) && job.isShuffled === isShuffled && isWanted(job),
  )
  const known = readLines<Partition>(await readFile(values.out, 'utf8').catch(() => ''))
  if (!values.judge) await collect(jobs, known, values.out, 1000 * Number(values.seconds))
  const fits = readLines<Partition>(await readFile(values.out, 'utf8'))
  judge(jobs, fits, 'unseen')
  if (!isShuffled) judge(jobs, fits, 'test')
}

const readLines = <T>(text: string): T[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)

const gains = (job: JobRecord, rows: Rows): boolean =>
  job[rows] !== undefined && judgeRecord(job, rows).worth.forcedGain >= LARGE_GAIN
/** The guard asks for two more partitions where the first leaves a doubt (`isDoubtful`). */
const isWanted = (job: JobRecord): boolean => {
  const { outcome, adapter } = judgeRecord(job)
  return outcome !== 'no_gain' && adapter.pValue <= 0.5 && adapter.pValue > 0.01
}

async function collect(
  jobs: readonly JobRecord[],
  known: readonly Partition[],
  out: string,
  forMs: number,
): Promise<void> {
  const endMs = performance.now() + forMs
  await mkdir(path.dirname(out), { recursive: true })
  const runner = await openTestRunner()
  try {
    // One seed of every set, then the next, so that a part of the run holds all sets.
    for (const job of jobs.toSorted((a, b) => a.seed - b.seed)) {
      const { set, seed, isShuffled } = job
      const all = readRows(set, 'train')
      if (all === null) {
        console.log(JSON.stringify({ set, skipped: 'there is no ../shared/data here' }))
        return
      }
      const train = drawBalanced(all, Object.values(TASK_SETS[set]!.words), seed, job.rows)
      for (const [offset, numFolds] of PARTITIONS) {
        const partitionSeed = seed + offset
        if (known.some((fit) => isOf(fit, job) && fit.partitionSeed === partitionSeed)) continue
        if (performance.now() > endMs) return
        const draw = { set, seed, train, isShuffled }
        const fit = await runPartition(runner, draw, partitionSeed, numFolds)
        await appendFile(out, `${JSON.stringify(fit)}\n`)
        console.log(JSON.stringify({ set, seed, numFolds }))
      }
    }
  } finally {
    await runner.release()
  }
}

const isOf = (fit: Partition, job: JobRecord): boolean =>
  fit.set === job.set && fit.seed === job.seed && fit.isShuffled === job.isShuffled

function judge(jobs: readonly JobRecord[], fits: readonly Partition[], rows: Rows): void {
  const counts: Record<string, number> = {}
  let numJobs = 0
  for (const job of jobs) {
    const [five, ten] = PARTITIONS.map(([offset]) =>
      fits.find((fit) => isOf(fit, job) && fit.partitionSeed === job.seed + offset),
    )
    if (five === undefined || ten === undefined || (!job.isShuffled && !gains(job, rows))) continue
    numJobs += 1
    const pValues = {
      'today, within the folds': judgeRecord(job).adapter.pValue,
      'one partition': pValueOf([job]),
      'and five other folds': pValueOf([job, five]),
      'and ten folds': pValueOf([job, five, ten]),
    }
    for (const [name, pValue] of Object.entries(pValues)) {
      counts[name] = (counts[name] ?? 0) + (pValue <= GUARD_LEVEL ? 1 : 0)
    }
  }
  const ofJobs = jobs[0]?.isShuffled === true ? 'shuffled' : `gain ≥ ${LARGE_GAIN} on ${rows} rows`
  console.log(
    JSON.stringify({ figure: `p ≤ ${GUARD_LEVEL}`, of: numJobs, jobs: ofJobs, ...counts }),
  )
}

type Predicted = Pick<Partition, 'gold' | 'folds' | 'base' | 'candidates'>

/** The guard's test of the mean over partitions. */
function pValueOf(partitions: readonly Predicted[]): number {
  const scores = partitions.map(logOddsOf)
  const mean = scores[0]!.map((row, i) =>
    row.map((_, label) => scores.reduce((sum, own) => sum + own[i]![label]!, 0) / scores.length),
  )
  const { gold } = partitions[0]!
  return learntTest(
    mean,
    gold,
    gold.map(() => 0),
  ).pValue
}

/** Log odds of each label, less their mean over the fold, clipped, [examples][labels]. */
function logOddsOf(partition: Predicted): number[][] {
  const { folds } = partition
  const rows = predictOutOfFold(partition).adapter.map((row) =>
    row.map((value) => Math.max(value, LOG_PROB_FLOOR)),
  )
  return rows.map((row, i) => {
    const fold = rows.filter((_, other) => folds[other] === folds[i])
    const centred = row.map((value, label) => value - meanOf(fold.map((own) => own[label]!)))
    const mean = meanOf(centred)
    return centred.map((value) => Math.max(-MAX_LOG_ODDS, Math.min(MAX_LOG_ODDS, value - mean)))
  })
}

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
