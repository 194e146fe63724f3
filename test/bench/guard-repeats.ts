/**
 * How much more does the guard see with out-of-fold predictions of several partitions? The jobs that
 * `npm run bench -- guard` kept are fitted again where their first partition leaves a doubt, and the
 * test is made of one, two and three partitions, all with the guard's own function. The jobs with clear
 * first partitions that were fitted again count too.
 *
 * `--labels true|shuffled` (true): the versions that gain .25 or more on unseen rows, or the jobs with
 * shuffled labels; `--rows N` (20) examples of a job, `--seconds N` (280) after which no further fit
 * begins, `--out FILE` (.arcana/bench/guard-repeats.jsonl) to which fits are appended, `--judge` to judge
 * that file alone
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { predictOutOfFold } from '../../adapters/guard/out-of-fold.ts'
import { FURTHER_PARTITIONS, testPartitions } from '../../adapters/guard/repeats.ts'
import { GUARD_LEVEL } from '../../adapters/guard/verdict.ts'
import { openTestRunner } from '../fixtures/runner.ts'
import { runPartition, type JobRecord, type Partition } from './guard/jobs.ts'
import { judgeRecord, type Rows } from './guard/verdicts.ts'
import { drawBalanced } from './tasks/draw.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const JOBS = new URL('../../docs/results/measured/guard/jobs.jsonl', import.meta.url)
const LARGE_GAIN = 0.25

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
    (job) => job.rows === Number(values.rows) && job.isShuffled === isShuffled,
  )
  const known = readLines<Partition>(await readFile(values.out, 'utf8').catch(() => ''))
  if (!values.judge)
    await collect(jobs.filter(isWanted), known, values.out, 1000 * Number(values.seconds))
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

/** Where the first partition leaves a doubt, and where it might: the bias may be the judged answer. */
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
      for (const { seedOffset, numFolds } of FURTHER_PARTITIONS) {
        const partitionSeed = seed + seedOffset
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
  fit.set === job.set &&
  fit.seed === job.seed &&
  fit.isShuffled === job.isShuffled &&
  fit.gold.length === job.rows

function judge(jobs: readonly JobRecord[], fits: readonly Partition[], rows: Rows): void {
  const counts: Record<string, number> = {}
  let numJobs = 0
  for (const job of jobs) {
    const [five, ten] = FURTHER_PARTITIONS.map(({ seedOffset }) =>
      fits.find((fit) => isOf(fit, job) && fit.partitionSeed === job.seed + seedOffset),
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
const pValueOf = (partitions: readonly Predicted[]): number =>
  testPartitions(
    partitions.map((own) => ({ folds: own.folds, predictions: predictOutOfFold(own).adapter })),
    partitions[0]!.gold,
  ).pValue
