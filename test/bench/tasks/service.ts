import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'
import type { Comparison } from '../../../src/protocol/arcana/compare.ts'
import type { FineTuningJob } from '../../../src/protocol/openai/fine-tuning.ts'
import { startStack } from '../../fixtures/stack.ts'
import type { Row } from './sets.ts'

export const MODEL = 'smollm2-135m-instruct'
const POLL_INTERVAL_MS = 200
/** Comparisons under way at once: the runner's batch, without filling its queue. */
const NUM_CONCURRENT = 8

type Message = { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }

/** The server that is named by ARCANA_BASE_URL and ARCANA_API_KEY, or one of its own. */
export async function openService(): Promise<{ openai: OpenAI; stop: () => Promise<void> }> {
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

/** Uploads rows as a training file. @returns its id */
export async function uploadRows(openai: OpenAI, rows: readonly Row[]): Promise<string> {
  const jsonl = rows.map(({ input, word }) => JSON.stringify({ input, label: word })).join('\n')
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

/**
 * Log probabilities of the labels for each row under each arm, as the service answers: after the
 * version's own bias, where it has one.
 * @param tasks arms beside the base model; at least one, since it is a task that has labels
 * @param before messages before the row's; without a system message the task's frame stands there
 * @returns [arm][row][label], the base first
 */
export async function compareRows(
  openai: OpenAI,
  tasks: readonly string[],
  rows: readonly Row[],
  words: readonly string[],
  before: readonly Message[] = [],
): Promise<number[][][]> {
  const arms = ['base', ...tasks]
  const results: number[][][] = arms.map(() => [])
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
        results[k]![i] = logProbsOf(arm, words)
      }
    }
  }
  await Promise.all(Array.from({ length: NUM_CONCURRENT }, work))
  return results
}

function logProbsOf(arm: Comparison['arms'][number], words: readonly string[]): number[] {
  const probabilities = new Map(arm.labels?.map(({ label, probability }) => [label, probability]))
  return words.map((word) => {
    const probability = probabilities.get(word)
    if (probability === undefined) throw new Error(`no probability for the label ${word}`)
    return Math.log(probability)
  })
}
