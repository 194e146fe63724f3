import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'
import { encodeAdapter } from '../../../adapters/format/adapter-file.ts'
import { LOG_PROB_FLOOR } from '../../../adapters/objective/label-log-probs.ts'
import { identityRotation } from '../../../adapters/rotation/rotation.ts'
import { decodeModelConfig, openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import type { Comparison } from '../../../src/protocol/arcana/compare.ts'
import type { FineTuningJob } from '../../../src/protocol/openai/fine-tuning.ts'
import { isTextReport } from '../../../src/protocol/openai/text-report.ts'
import { modelPath } from '../../fixtures/model.ts'
import { MODEL_DIGEST } from '../../fixtures/runner.ts'
import { startStack } from '../../fixtures/stack.ts'
import type { Row } from './sets.ts'
import type { JobFigures } from './store.ts'
import { round } from './summary.ts'

export const MODEL = 'smollm2-135m-instruct'
const POLL_INTERVAL_MS = 200
/** Comparisons under way at once: the runner's batch, without filling its queue. */
const NUM_CONCURRENT = 8
/**
 * Holds the prompts of a set's test rows, so that every seed and size after the first finds them
 * computed; answers have the same bits either way. Memory is taken up as they come.
 */
const PREFIX_CACHE_MIB = 6144
/** Optimisers with a budget of their own; the others are given trials. */
const OWN_BUDGET: ReadonlySet<string> = new Set(['gradient', 'auto'])

export type Message = { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }

export type Service = {
  readonly baseUrl: string
  readonly apiKey: string
  readonly openai: OpenAI
  readonly stop: () => Promise<void>
}

/** The server that is named by ARCANA_BASE_URL and ARCANA_API_KEY, or one of its own. */
export async function openService(): Promise<Service> {
  const connect = (baseUrl: string, apiKey: string) => ({
    baseUrl,
    apiKey,
    openai: new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 2, timeout: 600_000 }),
  })
  const { ARCANA_BASE_URL: baseUrl, ARCANA_API_KEY: apiKey } = process.env
  if (baseUrl !== undefined) {
    if (apiKey === undefined) throw new Error('ARCANA_BASE_URL is set and ARCANA_API_KEY is not')
    return { ...connect(baseUrl, apiKey), stop: () => Promise.resolve() }
  }
  const stack = await startStack({ env: { ARCANA_PREFIX_CACHE_MIB: String(PREFIX_CACHE_MIB) } })
  return { ...connect(stack.baseUrl, stack.apiKey), stop: () => stack.stop() }
}

/**
 * Uploads rows as a training file.
 * @param before turns before each row's, system message included; none leaves the frame to the job
 * @returns its id
 */
export async function uploadRows(
  openai: OpenAI,
  rows: readonly Row[],
  before: readonly Message[] = [],
): Promise<string> {
  const lines = rows.map(({ input, word }) =>
    before.length === 0
      ? { input, label: word }
      : {
          messages: [
            ...before,
            { role: 'user', content: input },
            { role: 'assistant', content: word },
          ],
        },
  )
  const jsonl = lines.map((line) => JSON.stringify(line)).join('\n')
  const file = await openai.files.create({
    file: await toFile(new TextEncoder().encode(jsonl), 'train.jsonl'),
    purpose: 'fine-tune',
  })
  return file.id
}

/** Runs a job to its end, whatever that is. */
export async function runJob(
  openai: OpenAI,
  body: Record<string, unknown>,
): Promise<{ readonly job: FineTuningJob; readonly seconds: number }> {
  const startedAtMs = performance.now()
  let job = await openai.post<FineTuningJob>('/fine_tuning/jobs', { body })
  while (job.status === 'queued' || job.status === 'running') {
    await sleep(POLL_INTERVAL_MS)
    job = await openai.get<FineTuningJob>(`/fine_tuning/jobs/${job.id}`)
  }
  return { job, seconds: (performance.now() - startedAtMs) / 1000 }
}

export type Lesson = {
  /** Told apart by it; the task's own name is made of it. */
  readonly name: string
  readonly file: string
  readonly seed: number
  readonly optimizer: string
  readonly numTrials: number
  /** Null where the training lines hold the system message. */
  readonly instructions: string | null
  readonly words: readonly string[]
}

/** Codes of jobs that ended well and published nothing. */
const NOTHING_LEARNT: ReadonlySet<string> = new Set(['no_gain'])

/**
 * Learns a task, published whatever the guard says of it.
 * @returns the task's name, null where the job found nothing to publish: the base model answers then
 * @throws {Error} the job failed
 */
export async function learnTask(
  openai: OpenAI,
  { name, file, seed, optimizer, numTrials, instructions, words }: Lesson,
): Promise<{ readonly task: string | null; readonly figures: JobFigures }> {
  const task = taskName(name)
  const hyperparameters = OWN_BUDGET.has(optimizer)
    ? { optimizer }
    : { optimizer, n_trials: numTrials }
  const { job, seconds } = await runJob(openai, {
    model: MODEL,
    training_file: file,
    suffix: task,
    seed,
    method: {
      type: 'rotation',
      rotation: { instructions, labels: words, hyperparameters, guard: 'report' },
    },
  })
  const { report } = job.arcana
  const hasNothing = job.status === 'failed' && NOTHING_LEARNT.has(job.error?.code ?? '')
  if ((job.status !== 'succeeded' && !hasNothing) || report == null || isTextReport(report)) {
    throw new Error(`job ${job.id} ${job.status}: ${job.error?.message ?? 'no reason given'}`)
  }
  const { adapter } = report.guard.compared
  return {
    task: hasNothing ? null : task,
    figures: {
      seconds: Number(seconds.toFixed(1)),
      trials: report.n_trials,
      outcome: hasNothing ? 'nothing published' : report.guard.outcome,
      p_value: round(adapter.p_value),
      gains: Object.fromEntries(
        Object.entries(adapter.gains).map(([name, gain]) => [name, round(gain)]),
      ),
    },
  }
}

/** A task with a frame and labels, and nothing learnt: its answers are the base model's. @returns its name */
export async function createLabelTask(
  openai: OpenAI,
  name: string,
  instructions: string,
  words: readonly string[],
): Promise<string> {
  const task = taskName(`${name}-base`)
  const gguf = await openGguf(await modelPath())
  const { numLayers, numHeads, headDim } = decodeModelConfig(gguf.metadata)
  await gguf.close()
  const bytes = encodeAdapter({
    modelDigest: MODEL_DIGEST,
    scope: 'generated',
    rotation: identityRotation({ numLayers, numHeads, headDim }),
    dtype: 'F16',
  })
  await uploadTask(openai, task, bytes, { instructions, labels: words, bias: words.map(() => 0) })
  return task
}

/** Brings an adapter file in as a version of a task. */
export async function uploadTask(
  openai: OpenAI,
  task: string,
  adapter: Uint8Array<ArrayBuffer>,
  version: Record<string, unknown>,
): Promise<void> {
  const form = new FormData()
  form.set('file', new Blob([adapter]), 'adapter.safetensors')
  form.set('version', JSON.stringify(version))
  await openai.post(`/tasks/${task}/versions`, { body: form })
}

export const taskName = (name: string): string =>
  `bench-${name.replaceAll('_', '-')}-${Date.now().toString(36)}`

/** As {@link learnTask}. @throws {Error} nothing was published either */
export async function learnPublished(openai: OpenAI, lesson: Lesson): Promise<string> {
  const { task } = await learnTask(openai, lesson)
  if (task === null) throw new Error(`${lesson.name}: the job found nothing to publish`)
  return task
}

export async function deleteTasks(openai: OpenAI, tasks: readonly string[]): Promise<void> {
  for (const task of tasks) await openai.delete(`/tasks/${task}`).catch(() => undefined)
}

/** What one arm says of one row's labels. */
type LabelAnswer = {
  /** As served: under the version's bias and temperature. */
  readonly served: readonly number[]
  /** The model's own, before both. */
  readonly model: readonly number[]
}

/**
 * Log probabilities of the labels for each row under each arm, as the service answers: after the
 * version's own bias, where it has one.
 * @param tasks as {@link compareArms}
 * @param before as {@link compareArms}
 * @returns [arm][row][label], the base first
 */
export async function compareRows(
  openai: OpenAI,
  tasks: readonly string[],
  rows: readonly Row[],
  words: readonly string[],
  before: readonly Message[] = [],
): Promise<(readonly number[])[][]> {
  const arms = await compareArms(openai, tasks, rows, words, before)
  return arms.map((answers) => answers.map(({ served }) => served))
}

/**
 * @param tasks arms beside the base model, names or sums; at least one, since it is a task that has
 *   labels
 * @param before messages before the row's; without a system message the task's frame stands there
 * @returns [arm][row], the base first
 */
export async function compareArms(
  openai: OpenAI,
  tasks: readonly string[],
  rows: readonly Row[],
  words: readonly string[],
  before: readonly Message[] = [],
): Promise<LabelAnswer[][]> {
  const arms = ['base', ...tasks]
  const results: LabelAnswer[][] = arms.map(() => [])
  let next = 0
  const work = async (): Promise<void> => {
    for (let i = next++; i < rows.length; i = next++) {
      const answer = await openai.post<Comparison>('/compare', {
        body: {
          messages: [...before, { role: 'user', content: rows[i]!.input }],
          arms,
          max_tokens: 1,
          temperature: 0,
          seed: 0,
        },
      })
      for (const [k, arm] of answer.arms.entries()) {
        if (k > 0 && arm.arcana.task !== tasks[k - 1]) {
          throw new Error(`row ${i} was not answered by ${tasks[k - 1]}`)
        }
        results[k]![i] = answerOf(arm, words)
      }
    }
  }
  await Promise.all(Array.from({ length: NUM_CONCURRENT }, work))
  return results
}

function answerOf(arm: Comparison['arms'][number], words: readonly string[]): LabelAnswer {
  const byLabel = new Map(arm.labels?.map((label) => [label.label, label]))
  const found = words.map((word) => {
    const label = byLabel.get(word)
    if (label === undefined) throw new Error(`no probability for the label ${word}`)
    return label
  })
  return {
    served: found.map(({ probability }) => Math.max(Math.log(probability), LOG_PROB_FLOOR)),
    model: found.map(({ log_probability: value }) => value),
  }
}
