/**
 * The official OpenAI client runs batches through the whole product, while SIGKILL ends its processes.
 * No line may be lost or answered twice in the files, and each answer's usage is counted once.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { startStack, until, type Stack } from '../fixtures/stack.ts'

const MODEL = 'smollm2-135m-instruct'
const NUM_LINES = 120
const BATCH_TIMEOUT_MS = 200_000

let home = ''
let stack: Stack
let openai: OpenAI

const connect = () =>
  new OpenAI({
    baseURL: stack.baseUrl,
    apiKey: stack.apiKey,
    maxRetries: 10,
  })

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'arcana-batches-'))
  stack = await startStack({ home })
  openai = connect()
})
afterAll(async () => {
  await stack.stop()
  await rm(home, { recursive: true, force: true })
})

/** Requests whose answers do not depend on when they run. */
const toLines = (numLines: number) =>
  Array.from({ length: numLines }, (_, i) =>
    JSON.stringify({
      custom_id: `request-${i}`,
      method: 'POST',
      url: '/v1/chat/completions',
      body: {
        model: MODEL,
        messages: [{ role: 'user', content: `Write a line about the number ${i}.` }],
        max_completion_tokens: 24,
        temperature: 1,
        seed: i,
      },
    }),
  ).join('\n')

async function createBatch(numLines = NUM_LINES) {
  const file = await openai.files.create({
    file: await toFile(Buffer.from(toLines(numLines)), 'requests.jsonl'),
    purpose: 'batch',
  })
  return openai.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  })
}

const read = (id: string) => openai.batches.retrieve(id).catch(() => null)

/** Waits until so many lines are done; ignores requests that fail meanwhile. */
const untilDone = (id: string, numLines: number) =>
  until(
    `${numLines} lines`,
    async () => ((await read(id))?.request_counts?.completed ?? 0) >= numLines,
    BATCH_TIMEOUT_MS,
  )

async function untilCompleted(id: string): Promise<OpenAI.Batch> {
  let last: OpenAI.Batch | null = null
  await until(
    `the batch ${id} ends`,
    async () => {
      last = (await read(id)) ?? last
      return last !== null && ['completed', 'failed', 'expired'].includes(last.status)
    },
    BATCH_TIMEOUT_MS,
  )
  return last!
}

type Result = {
  custom_id: string
  response: { status_code: number; request_id: string; body: OpenAI.ChatCompletion }
}

async function resultsOf(batch: OpenAI.Batch): Promise<Result[]> {
  const content = await openai.files.content(batch.output_file_id!)
  const text = await content.text()
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Result)
}

/** All requests and tokens that have been counted in this home. */
async function countedUsage() {
  const response = await fetch(
    `${stack.baseUrl}/organization/usage/completions?start_time=${Math.floor(Date.now() / 1000) - 86_400}&bucket_width=1d&limit=3`,
    { headers: { authorization: `Bearer ${stack.apiKey}` } },
  )
  const { data } = (await response.json()) as {
    data: {
      results: { num_model_requests: number; input_tokens: number; output_tokens: number }[]
    }[]
  }
  const all = data.flatMap(({ results }) => results)
  const total = (pick: (sum: (typeof all)[number]) => number) =>
    all.reduce((sum, each) => sum + pick(each), 0)
  return {
    requests: total((sum) => sum.num_model_requests),
    tokens: total((sum) => sum.input_tokens + sum.output_tokens),
  }
}

/** The texts of a calm batch, by line. */
let calm: (string | null)[] = []
let numAnswered = 0
let numTokens = 0

/** Checks a completed batch of all lines against its files and what has been counted. */
async function check(batch: OpenAI.Batch): Promise<(string | null)[]> {
  if (batch.status !== 'completed') throw new Error(`the batch ${batch.status}`)
  const results = await resultsOf(batch)
  const ids = results.map(({ custom_id: id }) => id)
  const wanted = Array.from({ length: NUM_LINES }, (_, i) => `request-${i}`)
  if (JSON.stringify(ids) !== JSON.stringify(wanted)) throw new Error(`lines ${ids.join(' ')}`)
  const tokens = results.reduce((sum, { response }) => sum + response.body.usage!.total_tokens, 0)
  if (batch.usage?.total_tokens !== tokens) throw new Error('the batch counts other tokens')
  numAnswered += results.length
  numTokens += tokens
  return results.map(({ response }) => response.body.choices[0]!.message.content)
}

describe('a batch of the official client', () => {
  it('is answered from upload to content', async ({ expect }) => {
    const made = await createBatch()
    expect(made.status).toBe('validating')
    const batch = await untilCompleted(made.id)
    expect(batch.request_counts).toEqual({ total: NUM_LINES, completed: NUM_LINES, failed: 0 })
    calm = await check(batch)
    expect(calm.every((text) => text !== null && text.length > 0)).toBe(true)
    expect(await countedUsage()).toEqual({ requests: numAnswered, tokens: numTokens })
  })

  it('has the same lines after SIGKILL of workerd, the gateway’s host and the runner', async ({
    expect,
  }) => {
    const { id } = await createBatch()
    await untilDone(id, 10)
    process.kill((await stack.pids()).workerd, 'SIGKILL')
    await untilDone(id, 40)
    const pids = await stack.pids()
    process.kill(pids.gateway, 'SIGKILL')
    process.kill(pids.workerd, 'SIGKILL')
    await untilDone(id, 70)
    process.kill((await stack.pids()).runner, 'SIGKILL')
    const batch = await untilCompleted(id)
    expect(await check(batch)).toEqual(calm)
    expect(await countedUsage()).toEqual({ requests: numAnswered, tokens: numTokens })
  })

  it('goes on after everything was killed and started again', async ({ expect }) => {
    const { id } = await createBatch()
    await untilDone(id, 10)
    const pids = await stack.pids()
    for (const pid of [pids.supervisor, pids.workerd, pids.gateway, pids.runner]) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended with the supervisor.
      }
    }
    stack = await startStack({ home, port: stack.port })
    openai = connect()
    const batch = await untilCompleted(id)
    expect(await check(batch)).toEqual(calm)
    expect(await countedUsage()).toEqual({ requests: numAnswered, tokens: numTokens })
  })

  it('that is cancelled keeps what was done', async ({ expect }) => {
    const { id } = await createBatch()
    await untilDone(id, 5)
    expect((await openai.batches.cancel(id)).status).toBe('cancelling')
    await until(
      'the batch is cancelled',
      async () => (await read(id))?.status === 'cancelled',
      BATCH_TIMEOUT_MS,
    )
    const batch = await openai.batches.retrieve(id)
    const results = await resultsOf(batch)
    expect(results).toHaveLength(batch.request_counts!.completed)
    expect(results.length).toBeLessThan(NUM_LINES)
    for (const { custom_id: line, response } of results) {
      const text = calm[Number(line.slice('request-'.length))]
      expect(response.body.choices[0]!.message.content).toBe(text)
    }
    await expect(openai.batches.cancel(id)).rejects.toBeInstanceOf(OpenAI.ConflictError)
  })

  it('is listed, page by page', async ({ expect }) => {
    const statuses: string[] = []
    for await (const batch of openai.batches.list({ limit: 2 })) statuses.push(batch.status)
    expect(statuses).toEqual(['cancelled', 'completed', 'completed', 'completed'])
  })
})
