/**
 * Measures what jobs with a grader learn: positive continuations of film reviews, graded by an sst2
 * task, and less toxic continuations, graded by a tweet_offensive task. It compares base and
 * adapter on prompts that no job saw, through the product's own API. It prints the grade, the
 * verdict of a second judge that the job never asked, the base model's probability of the texts,
 * their diversity and length, and samples.
 *
 * `--sets NAME,…` (imdb_generation,realtoxicityprompts), `--optimizers NAME,…` (auto), `--seed N` (0),
 * `--train N` (20) prompts to learn from, `--split NAME` (validation), `--rows N` (100), `--tokens N`
 * (24), `--temperature T` (1), `--hyperparameters JSON` for the job, `--samples N` (10), `--out FOLDER`
 * for `generation.json` and `generation.md`, which hold continuations and no prompt.
 */
import { parseArgs } from 'node:util'
import { type OpenAI, toFile } from 'openai'
import type { RewardReport } from '../../src/protocol/openai/text-report.ts'
import { measureColumns, type Judges } from './generation/measure.ts'
import { drawPrompts, GENERATION_SETS, readPrompts, type Prompt } from './generation/sets.ts'
import { summariseSet, toMarkdown, type JobSummary, type SetSummary } from './generation/table.ts'
import { writeResults } from './results/write.ts'
import { drawBalanced } from './tasks/draw.ts'
import {
  deleteTasks,
  learnTask,
  MODEL,
  openService,
  runJob,
  taskName,
  uploadRows,
} from './tasks/service.ts'
import { readRows, TASK_SETS } from './tasks/sets.ts'

const NUM_GRADER_ROWS = 20
/** The second judge is fitted to another draw of rows. */
const SECOND_SEED_OFFSET = 1
/** Draws of rows to try for a judge, because on a hard set some jobs publish nothing. */
const NUM_JUDGE_DRAWS = 5
const JUDGE_SEED_STEP = 2
/** Error codes of jobs that ran normally and published nothing. */
const NOTHING_LEARNT: ReadonlySet<string> = new Set(['no_gain'])

type Plan = {
  readonly set: string
  readonly optimizers: readonly string[]
  readonly hyperparameters: object
  readonly seed: number
  readonly numTrain: number
  readonly split: string
  readonly numRows: number
  readonly maxTokens: number
  readonly temperature: number
  readonly numSamples: number
}

export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      sets: { type: 'string', default: Object.keys(GENERATION_SETS).join(',') },
      optimizers: { type: 'string', default: 'auto' },
      hyperparameters: { type: 'string', default: '{}' },
      seed: { type: 'string', default: '0' },
      train: { type: 'string', default: '20' },
      split: { type: 'string', default: 'validation' },
      rows: { type: 'string', default: '100' },
      tokens: { type: 'string', default: '24' },
      temperature: { type: 'string', default: '1' },
      samples: { type: 'string', default: '10' },
      out: { type: 'string' },
    },
  })
  const plan = {
    optimizers: values.optimizers.split(','),
    hyperparameters: JSON.parse(values.hyperparameters) as object,
    seed: Number(values.seed),
    numTrain: Number(values.train),
    split: values.split,
    numRows: Number(values.rows),
    maxTokens: Number(values.tokens),
    temperature: Number(values.temperature),
    numSamples: Number(values.samples),
  }
  const service = await openService()
  const summaries: SetSummary[] = []
  try {
    for (const set of values.sets.split(',')) {
      const summary = await measureSet(service.openai, { ...plan, set })
      if (summary === null) continue
      console.log(JSON.stringify(summary))
      summaries.push(summary)
    }
  } finally {
    await service.stop()
  }
  if (summaries.length === 0) return
  const { split, seed, numTrain, maxTokens, temperature } = plan
  const setting = {
    split,
    seed,
    num_train: numTrain,
    max_tokens: maxTokens,
    temperature,
    num_grader_rows: NUM_GRADER_ROWS,
  }
  const markdown = toMarkdown(summaries, setting)
  console.log(markdown)
  if (values.out === undefined) return
  await writeResults(values.out, {
    'generation.md': markdown,
    'generation.json': { ...setting, sets: summaries },
  })
}

/** @returns null if the set is not beside this checkout */
async function measureSet(openai: OpenAI, plan: Plan): Promise<SetSummary | null> {
  const { set: name, seed, split, numRows, maxTokens, temperature } = plan
  const set = GENERATION_SETS[name]
  if (set === undefined) {
    throw new Error(`no set "${name}"; one of ${Object.keys(GENERATION_SETS).join(', ')}`)
  }
  const train = readPrompts(name, 'train')
  const prompts = readPrompts(name, split, numRows)
  const isThere = readRows(set.grader.set, 'train') !== null
  if (train === null || prompts === null || !isThere) {
    console.log(`skipped: ../shared/data/${name} is not beside this checkout`)
    return null
  }
  const drawn = drawPrompts(train, seed, plan.numTrain)
  const tasks: string[] = []
  try {
    const judges: Judges = {
      grader: await learnJudge(openai, set.grader.set, seed),
      second: await learnJudge(openai, set.grader.set, seed + SECOND_SEED_OFFSET),
    }
    tasks.push(judges.grader, judges.second)
    const jobs: Record<string, JobSummary> = {}
    const learnt: Record<string, string> = {}
    for (const optimizer of plan.optimizers) {
      const { task, summary } = await learn(openai, plan, drawn, judges, optimizer)
      console.log(JSON.stringify({ set: name, job: optimizer, ...summary }))
      jobs[optimizer] = summary
      if (task === null) continue
      learnt[optimizer] = task
      tasks.push(task)
    }
    const sampling = { seed, max_tokens: maxTokens, temperature }
    const columns = await measureColumns(openai, set, learnt, judges, prompts, sampling)
    return summariseSet({ name, set, prompts, columns, jobs, numSamples: plan.numSamples })
  } finally {
    await deleteTasks(openai, tasks)
  }
}

/**
 * Fits a grader's task as anyone would, by gradient, to the first draw of rows that teaches something.
 * @returns its name
 * @throws {Error} no draw did
 */
async function learnJudge(openai: OpenAI, set: string, firstSeed: number): Promise<string> {
  for (let draw = 0; draw < NUM_JUDGE_DRAWS; draw++) {
    const task = await tryJudge(openai, set, firstSeed + draw * JUDGE_SEED_STEP)
    if (task !== null) return task
    console.log(JSON.stringify({ set, draw, judge: 'nothing published' }))
  }
  throw new Error(`no judge of ${set} was published`)
}

async function tryJudge(openai: OpenAI, set: string, seed: number): Promise<string | null> {
  const { instructions, words: wordOf } = TASK_SETS[set]!
  const words = Object.values(wordOf)
  const rows = drawBalanced(readRows(set, 'train')!, words, seed, NUM_GRADER_ROWS)
  const file = await uploadRows(openai, rows)
  try {
    const { task } = await learnTask(openai, {
      name: `${set}-judge`,
      file,
      seed,
      optimizer: 'gradient',
      numTrials: 0,
      instructions,
      words,
    })
    return task
  } finally {
    await openai.files.delete(file).catch(() => undefined)
  }
}

/** @returns the task's name, null if the job published nothing @throws {Error} it failed */
async function learn(
  openai: OpenAI,
  { set: name, hyperparameters, seed, maxTokens, temperature }: Plan,
  drawn: readonly Prompt[],
  { grader: task }: Judges,
  optimizer: string,
): Promise<{ readonly task: string | null; readonly summary: JobSummary }> {
  const { instructions, grader } = GENERATION_SETS[name]!
  const lines = drawn.map(({ input }) => JSON.stringify({ input })).join('\n')
  const file = await openai.files.create({
    file: await toFile(new TextEncoder().encode(lines), 'prompts.jsonl'),
    purpose: 'fine-tune',
  })
  const suffix = taskName(`${name}-${optimizer}`)
  try {
    const { job, seconds } = await runJob(openai, {
      model: MODEL,
      training_file: file.id,
      suffix,
      seed,
      method: {
        type: 'rotation',
        rotation: {
          instructions,
          grader: { type: 'task', task, label: grader.label },
          generation: { max_tokens: maxTokens, temperature },
          hyperparameters: { ...hyperparameters, optimizer },
          guard: 'report',
        },
      },
    })
    const report = job.arcana.report as RewardReport | null | undefined
    const hasNothing = job.status === 'failed' && NOTHING_LEARNT.has(job.error?.code ?? '')
    if (job.status !== 'succeeded' && !hasNothing) {
      throw new Error(`job ${job.id} ${job.status}: ${job.error?.message ?? 'no reason given'}`)
    }
    const summary: JobSummary = {
      optimizer: job.method.rotation.hyperparameters.optimizer,
      seconds: Math.round(10 * seconds) / 10,
      outcome: hasNothing ? 'nothing published' : report!.guard.outcome,
      gain: report?.guard.gain ?? null,
      p_value: report?.guard.p_value ?? null,
      rounds: report?.rounds?.scores ?? null,
      chosen_round: report?.rounds?.chosen_round ?? null,
    }
    return { task: hasNothing ? null : suffix, summary }
  } finally {
    await openai.files.delete(file.id).catch(() => undefined)
  }
}
