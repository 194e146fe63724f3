import type OpenAI from 'openai'
import {
  applyBias,
  batchCalibration,
  type LabelLogProbs,
} from '../../../adapters/objective/label-log-probs.ts'
import { createRng, permutation } from '../../../adapters/optimise/rng.ts'
import { logisticRegression } from './logistic-regression.ts'
import { compareRows, MODEL, runJob, uploadRows } from './service.ts'
import { TASK_SETS, type Row } from './sets.ts'

const NUM_TRAIN_ROWS = 20
const NUM_SHOTS = 4

export type JobFigures = {
  readonly seconds: number
  readonly trials: number
  /** What the guard would have done; the bench publishes whatever was learnt. */
  readonly outcome: string
  /** Of the adapter against the hardest of what it has to beat, out of fold; gains in nats. */
  readonly p_value: number
  readonly against: string
  readonly gains: Readonly<Record<string, number>>
}

/** One set and seed: what each way of answering says of the test rows. */
export type Measured = {
  readonly set: string
  readonly seed: number
  /** Right label of each test row. */
  readonly gold: readonly number[]
  /** By column: log probabilities, [row][label]. */
  readonly columns: Readonly<Record<string, LabelLogProbs>>
  readonly jobs: Readonly<Record<string, JobFigures>>
}

export type Plan = {
  readonly set: string
  readonly seed: number
  readonly optimisers: readonly string[]
  readonly numTrials: number
  /** The pool that training rows are drawn from. */
  readonly train: readonly Row[]
  readonly test: readonly Row[]
  /** Whether to ask with four examples in the prompt too, which takes as long as all the rest. */
  readonly hasShots: boolean
}

/** Learns by every optimiser from the same rows and asks all of them, and the base, about the test. */
export async function measure(openai: OpenAI, plan: Plan): Promise<Measured> {
  const { set, seed, test } = plan
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const train = drawBalanced(plan.train, words, seed)
  const file = await uploadRows(openai, train)
  const tasks: string[] = []
  const jobs: Record<string, JobFigures> = {}
  try {
    for (const optimizer of plan.optimisers) {
      const task = `bench-${set.replaceAll('_', '-')}-${seed}-${optimizer}-${Date.now().toString(36)}`
      const hyperparameters =
        optimizer === 'gradient' || optimizer === 'auto'
          ? { optimizer }
          : { optimizer, n_trials: plan.numTrials }
      const { job, seconds } = await runJob(openai, {
        model: MODEL,
        training_file: file,
        suffix: task,
        seed,
        method: {
          type: 'rotation',
          rotation: { instructions, labels: words, hyperparameters },
        },
      })
      const { report } = job.arcana
      if (job.status !== 'succeeded' || report == null) {
        throw new Error(`job ${job.id} ${job.status}: ${job.error?.message ?? 'no reason given'}`)
      }
      const { adapter } = report.guard.compared
      tasks.push(task)
      jobs[optimizer] = {
        seconds: Number(seconds.toFixed(1)),
        trials: report.n_trials,
        outcome: report.guard.outcome,
        p_value: adapter.p_value,
        against: adapter.against,
        gains: adapter.gains,
      }
    }
    const trained = (await compareRows(openai, tasks, train, words))[0]!
    const [base, ...adapted] = await compareRows(openai, tasks, test, words)
    const gold = (rows: readonly Row[]) => rows.map(({ word }) => words.indexOf(word))
    return {
      set,
      seed,
      gold: gold(test),
      columns: {
        base: base!,
        calibrated: applyBias(base!, batchCalibration(trained)),
        logistic: logisticRegression(trained, gold(train), base!),
        ...(plan.hasShots
          ? { shots: await askWithShots(openai, tasks[0]!, instructions, train, test, words) }
          : {}),
        ...Object.fromEntries(plan.optimisers.map((name, k) => [name, adapted[k]!])),
      },
      jobs,
    }
  } finally {
    await openai.files.delete(file).catch(() => undefined)
    for (const task of tasks) await openai.delete(`/tasks/${task}`).catch(() => undefined)
  }
}

/** As many rows of every label as there can be of 20, by a seeded shuffle of all. */
function drawBalanced(rows: readonly Row[], words: readonly string[], seed: number): Row[] {
  const shuffled = permutation(rows.length, createRng(seed)).map((i) => rows[i]!)
  const perLabel = Math.floor(NUM_TRAIN_ROWS / words.length)
  return words.flatMap((word) => shuffled.filter((row) => row.word === word).slice(0, perLabel))
}

/** The base model with examples of as many labels as it has room for in the prompt, one seeded draw. */
async function askWithShots(
  openai: OpenAI,
  task: string,
  instructions: string,
  train: readonly Row[],
  test: readonly Row[],
  words: readonly string[],
): Promise<LabelLogProbs> {
  const perLabel = Math.max(1, Math.floor(NUM_SHOTS / words.length))
  const shots = words
    .flatMap((word) => train.filter((row) => row.word === word).slice(0, perLabel))
    .slice(0, NUM_SHOTS)
  const before = [
    { role: 'system' as const, content: instructions },
    ...shots.flatMap(({ input, word }) => [
      { role: 'user' as const, content: input },
      { role: 'assistant' as const, content: word },
    ]),
  ]
  return (await compareRows(openai, [task], test, words, before))[0]!
}
