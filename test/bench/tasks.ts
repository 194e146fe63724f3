/**
 * What a job learns from twenty examples, measured through the product's own API: upload, job,
 * comparison of base and task on test rows. Against the server at ARCANA_BASE_URL with
 * ARCANA_API_KEY, or one that is started for it.
 *
 * `--set NAME` (ag_news), `--seeds 0,1,…` (0–4), `--trials N` (150), `--rows N` (200)
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import OpenAI, { toFile } from 'openai'
import {
  applyBias,
  batchCalibration,
  type LabelLogProbs,
} from '../../adapters/objective/label-log-probs.ts'
import { createRng, permutation } from '../../adapters/optimise/rng.ts'
import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
  predictLabels,
  weightedF1,
} from '../../adapters/statistics/classification.ts'
import type { Comparison } from '../../src/protocol/arcana/compare.ts'
import type { FineTuningJob } from '../../src/protocol/openai/fine-tuning.ts'
import { readSharedRows } from '../fixtures/runner.ts'
import { startStack } from '../fixtures/stack.ts'

const MODEL = 'smollm2-135m-instruct'
const NUM_TRAIN_ROWS = 20
/** What the issue asks for, on ag_news. */
const MIN_GAIN = 0.2
const MAX_JOB_SECONDS = 90
const POLL_INTERVAL_MS = 200
/** Comparisons under way at once: the runner's batch, without filling its queue. */
const NUM_CONCURRENT = 8

type SetName = 'ag_news' | 'sst2' | 'sms_spam'
/** Instructions that were measured before the project began (notes/optimisers.md). */
const SETS: Record<SetName, { readonly instructions: string; readonly labels: readonly string[] }> =
  {
    ag_news: {
      instructions:
        'You are a news classifier. Answer with the category only: World, Sports, Business or Science.',
      labels: ['World', 'Sports', 'Business', 'Science'],
    },
    sst2: {
      instructions:
        'Classify the sentiment of the sentence. Answer with negative or positive only.',
      labels: ['negative', 'positive'],
    },
    sms_spam: {
      instructions: 'Is the message spam or ham? Answer with spam or ham only.',
      labels: ['ham', 'spam'],
    },
  }
const isSet = (name: string): name is SetName => Object.hasOwn(SETS, name)

type Row = { readonly input: string; readonly label: string }
type Scores = {
  readonly balanced_accuracy: number
  readonly accuracy: number
  readonly weighted_f1: number
}
type SeedFigures = {
  readonly set: SetName
  readonly seed: number
  readonly job_seconds: number
  readonly base: Scores
  readonly calibrated_base: Scores
  readonly adapter: Scores
  /** The objective at its best trial and at the identity. */
  readonly best_value: number | null
  readonly base_value: number | null
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      set: { type: 'string', default: 'ag_news' },
      seeds: { type: 'string', default: '0,1,2,3,4' },
      trials: { type: 'string', default: '150' },
      rows: { type: 'string', default: '200' },
    },
  })
  if (!isSet(values.set))
    throw new Error(`no set "${values.set}"; one of ${Object.keys(SETS).join(', ')}`)
  const seeds = values.seeds.split(',').map(Number)
  const numTrials = Number(values.trials)
  const train = readSharedRows(values.set, 'train')
  const test = readSharedRows(values.set, 'test')?.slice(0, Number(values.rows))
  if (train === null || test === undefined) {
    console.log(`skipped: ../shared/data/${values.set} is not beside this checkout`)
    return
  }
  const service = await openService()
  try {
    const figures: SeedFigures[] = []
    for (const seed of seeds) {
      const measured = await measureSeed(service.openai, {
        set: values.set,
        seed,
        numTrials,
        train: drawBalanced(train, SETS[values.set].labels, seed),
        test,
      })
      console.log(JSON.stringify(measured))
      figures.push(measured)
    }
    printTable(figures)
  } finally {
    await service.stop()
  }
}

/** The server that is named by the environment, or one of its own. */
async function openService(): Promise<{ openai: OpenAI; stop: () => Promise<void> }> {
  const connect = (baseURL: string, apiKey: string) =>
    new OpenAI({ baseURL, apiKey, maxRetries: 2, timeout: 600_000 })
  const { ARCANA_BASE_URL: baseUrl, ARCANA_API_KEY: apiKey } = process.env
  if (baseUrl !== undefined) {
    if (apiKey === undefined) throw new Error('ARCANA_BASE_URL is set and ARCANA_API_KEY is not')
    return { openai: connect(baseUrl, apiKey), stop: () => Promise.resolve() }
  }
  const stack = await startStack()
  return { openai: connect(stack.baseUrl, stack.apiKey), stop: () => stack.stop() }
}

/** As many rows of every label, by a seeded shuffle of all. */
function drawBalanced(rows: readonly Row[], labels: readonly string[], seed: number): Row[] {
  const shuffled = permutation(rows.length, createRng(seed)).map((i) => rows[i]!)
  const perLabel = NUM_TRAIN_ROWS / labels.length
  return labels.flatMap((label) => shuffled.filter((row) => row.label === label).slice(0, perLabel))
}

/** One job and what it changed; its file and task are deleted again. */
async function measureSeed(
  openai: OpenAI,
  plan: {
    readonly set: SetName
    readonly seed: number
    readonly numTrials: number
    readonly train: readonly Row[]
    readonly test: readonly Row[]
  },
): Promise<SeedFigures> {
  const { set, seed, train, test } = plan
  const { instructions, labels } = SETS[set]
  const task = `bench-${set.replaceAll('_', '-')}-${seed}-${Date.now().toString(36)}`
  const jsonl = train.map(({ input, label }) => JSON.stringify({ input, label })).join('\n')
  const file = await openai.files.create({
    file: await toFile(new TextEncoder().encode(jsonl), `${task}.jsonl`),
    purpose: 'fine-tune',
  })
  try {
    const startedAtMs = performance.now()
    const job = await runJob(openai, {
      model: MODEL,
      training_file: file.id,
      suffix: task,
      seed,
      method: {
        type: 'rotation',
        rotation: {
          instructions,
          labels,
          // What is measured is the adapter, whatever the guard makes of it.
          force: true,
          hyperparameters: { optimizer: 'bo', n_trials: plan.numTrials },
        },
      },
    })
    const jobSeconds = (performance.now() - startedAtMs) / 1000
    const [trained, tested] = [
      await compareRows(openai, task, train, labels),
      await compareRows(openai, task, test, labels),
    ]
    const bias = batchCalibration(trained.base)
    const gold = test.map(({ label }) => labels.indexOf(label))
    return {
      set,
      seed,
      job_seconds: round(jobSeconds, 1),
      base: score(tested.base, gold),
      calibrated_base: score(applyBias(tested.base, bias), gold),
      adapter: score(tested.adapter, gold),
      best_value: job.arcana.progress.best_value,
      base_value: job.arcana.progress.base_value,
    }
  } finally {
    await openai.files.delete(file.id)
    await openai.delete(`/tasks/${task}`).catch(() => undefined)
  }
}

/** @throws {Error} the job did not succeed */
async function runJob(openai: OpenAI, body: Record<string, unknown>): Promise<FineTuningJob> {
  let job = await openai.post<FineTuningJob>('/fine_tuning/jobs', { body })
  while (job.status === 'queued' || job.status === 'running') {
    await sleep(POLL_INTERVAL_MS)
    job = await openai.get<FineTuningJob>(`/fine_tuning/jobs/${job.id}`)
  }
  if (job.status !== 'succeeded') {
    throw new Error(`job ${job.id} ${job.status}: ${job.error?.message ?? 'no reason given'}`)
  }
  return job
}

/** Log probabilities of the labels under the base model and under the task, [row][label]. */
async function compareRows(
  openai: OpenAI,
  task: string,
  rows: readonly Row[],
  labels: readonly string[],
): Promise<{ readonly base: LabelLogProbs; readonly adapter: LabelLogProbs }> {
  const base: number[][] = []
  const adapter: number[][] = []
  let next = 0
  const work = async (): Promise<void> => {
    for (let i = next++; i < rows.length; i = next++) {
      const { arms } = await openai.post<Comparison>('/compare', {
        body: {
          messages: [{ role: 'user', content: rows[i]!.input }],
          arms: ['base', task],
          max_tokens: 1,
          temperature: 0,
          seed: 0,
        },
      })
      const [ofBase, ofTask] = arms
      if (ofTask?.arcana.task !== task) throw new Error(`row ${i} was not answered by ${task}`)
      base[i] = logProbsOf(ofBase!, labels)
      adapter[i] = logProbsOf(ofTask, labels)
    }
  }
  await Promise.all(Array.from({ length: NUM_CONCURRENT }, work))
  return { base, adapter }
}

/** In the order of `labels`, as the service answers: after the version's own bias, where it has one. */
function logProbsOf(arm: Comparison['arms'][number], labels: readonly string[]): number[] {
  const probabilities = new Map(arm.labels?.map(({ label, probability }) => [label, probability]))
  return labels.map((label) => {
    const probability = probabilities.get(label)
    if (probability === undefined) throw new Error(`no probability for the label ${label}`)
    return Math.log(probability)
  })
}

function score(logProbs: LabelLogProbs, gold: readonly number[]): Scores {
  const matrix = confusionMatrix(gold, predictLabels(logProbs), logProbs[0]!.length)
  return {
    balanced_accuracy: round(balancedAccuracy(matrix), 4),
    accuracy: round(accuracy(matrix), 4),
    weighted_f1: round(weightedF1(matrix), 4),
  }
}

/** Names in the table, short enough for a terminal. */
const ARMS = { base: 'base', calibrated_base: 'calibrated', adapter: 'adapter' } as const
const METRICS = { balanced_accuracy: 'bal', accuracy: 'acc', weighted_f1: 'F1' } as const
const keysOf = <K extends string>(names: Record<K, string>) => Object.keys(names) as K[]

/** Every seed, the medians, and what the issue asks of them. */
function printTable(figures: readonly SeedFigures[]): void {
  const rows: Record<string, Record<string, number>> = {}
  const rowOf = (of: (pick: (figure: SeedFigures) => number) => number) => {
    const row: Record<string, number> = {}
    for (const arm of keysOf(ARMS)) {
      for (const metric of keysOf(METRICS)) {
        row[`${ARMS[arm]} ${METRICS[metric]}`] = round(
          of((figure) => figure[arm][metric]),
          4,
        )
      }
    }
    row['job_seconds'] = of((figure) => figure.job_seconds)
    return row
  }
  for (const figure of figures) rows[`seed ${figure.seed}`] = rowOf((pick) => pick(figure))
  rows['median'] = rowOf((pick) => median(figures.map(pick)))
  console.table(rows)
  const gains = figures.map(
    (figure) => figure.adapter.balanced_accuracy - figure.base.balanced_accuracy,
  )
  console.log(
    JSON.stringify({
      figure: 'median balanced accuracy of the adapter above base',
      value: round(median(gains), 4),
      at_least: figures[0]?.set === 'ag_news' ? MIN_GAIN : null,
      slowest_job_seconds: Math.max(...figures.map((figure) => figure.job_seconds)),
      at_most_seconds: MAX_JOB_SECONDS,
    }),
  )
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits))
