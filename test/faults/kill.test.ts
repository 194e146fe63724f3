/**
 * SIGKILL of each part of the service during a job. Every job here has the same file, seed and
 * settings, and scoring is a pure function of them, so a job that was disturbed must end with the
 * very adapter of one that was not: no trial lost, doubled or changed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { TaskVersion } from '../../src/protocol/arcana/tasks.ts'
import type { NewsLine } from '../../src/cli/demo/news.ts'
import { Api, newsSplit } from '../fixtures/api.ts'
import { startStack, until, type Stack } from '../fixtures/stack.ts'

const NUM_TRIALS = 40
/** Enough for one or two rounds, and far from the end. */
const EARLY = 10
const LATER = 24
const JOB_TIMEOUT_MS = 150_000

let home = ''
let stack: Stack
let api: Api
let fileId = ''
let test: readonly NewsLine[]
/** Adapter digest of the job that nothing disturbed. */
let undisturbed = ''
const jobIds: string[] = []

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'arcana-faults-'))
  stack = await startStack({ home })
  api = new Api(stack)
  const news = await newsSplit()
  test = news.test
  fileId = (await api.upload(news.training)).id
})
afterAll(async () => {
  await stack.stop()
  await rm(home, { recursive: true, force: true })
})

/** Runs a job with a kill during it, and returns the one version that it published. */
async function runJob(
  task: string,
  disturb: (jobId: string) => Promise<void>,
): Promise<TaskVersion> {
  const { id } = await api.startJob(fileId, task, NUM_TRIALS)
  jobIds.push(id)
  await disturb(id)
  const job = await api.untilFinished(id, JOB_TIMEOUT_MS)
  if (job.status !== 'succeeded') throw new Error(`the job ${job.status}: ${job.error?.message}`)
  const { versions, live_version } = await api.task(task)
  if (versions.length !== 1 || live_version !== 1) {
    throw new Error(`${versions.length} versions where one was published, ${live_version} live`)
  }
  return versions[0]!
}

async function trialsOf(jobId: string): Promise<number[]> {
  const { data } = await api.events(jobId)
  return data
    .filter(({ type }) => type === 'metrics')
    .map(({ data }) => data!['trial']!)
    .sort((a, b) => a - b)
}

const kill = async (...names: ('runner' | 'gateway' | 'workerd')[]): Promise<void> => {
  const pids = await stack.pids()
  for (const name of names) process.kill(pids[name], 'SIGKILL')
}

const allTrials = Array.from({ length: NUM_TRIALS }, (_, i) => i)

describe('a job', () => {
  it('ends when nothing is killed', async ({ expect }) => {
    const version = await runJob('calm', () => Promise.resolve())
    undisturbed = version.adapter_digest ?? ''
    expect(undisturbed).not.toBe('')
    expect(version.job).toBe(jobIds.at(-1))
    expect(await trialsOf(version.job)).toEqual(allTrials)
  })

  it('survives SIGKILL of the runner, and so does the adapter it serves', async ({ expect }) => {
    const version = await runJob('runner-killed', async (id) => {
      await api.untilTrials(id, EARLY, JOB_TIMEOUT_MS)
      await kill('runner')
    })
    expect(version.adapter_digest).toBe(undisturbed)
    expect(await trialsOf(version.job)).toEqual(allTrials)
    // The killed runner had the first task's adapter; the gateway sends it to the new one.
    const { arcana } = await api.ask(test[0]!.input, 'calm')
    expect(arcana.adapters.map(({ digest }) => digest)).toEqual([undisturbed])
  })

  it('survives SIGKILL of the gateway, workerd and its host, twice', async ({ expect }) => {
    const version = await runJob('gateway-killed', async (id) => {
      await api.untilTrials(id, EARLY, JOB_TIMEOUT_MS)
      await kill('workerd', 'gateway')
      await api.untilTrials(id, LATER, JOB_TIMEOUT_MS)
      await kill('workerd')
    })
    expect(version.adapter_digest).toBe(undisturbed)
    expect(await trialsOf(version.job)).toEqual(allTrials)
  })

  it('continues after everything was killed and started again', async ({ expect }) => {
    const version = await runJob('all-killed', async (id) => {
      await api.untilTrials(id, EARLY, JOB_TIMEOUT_MS)
      const pids = await stack.pids()
      process.kill(pids.supervisor, 'SIGKILL')
      await kill('workerd', 'gateway', 'runner').catch(() => undefined)
      stack = await startStack({ home, port: stack.port })
      api = new Api(stack)
    })
    expect(version.adapter_digest).toBe(undisturbed)
    expect(await trialsOf(version.job)).toEqual(allTrials)
  })
})

describe('after all that', () => {
  it('every file, job, task and version is there once', async ({ expect }) => {
    const files = await api.files()
    expect(files.data.map(({ id }) => id)).toEqual([fileId])
    const jobs = await api.jobs()
    expect(jobs.data.map(({ id }) => id).sort()).toEqual([...jobIds].sort())
    expect(jobs.data.every(({ status }) => status === 'succeeded')).toBe(true)
    const tasks = await api.call<{ data: { name: string }[] }>('/tasks')
    expect(tasks.data.map(({ name }) => name).sort()).toEqual(
      ['all-killed', 'calm', 'gateway-killed', 'runner-killed'].sort(),
    )
  })

  it('every task gives the same answers, with its own proof', async ({ expect }) => {
    const answers = []
    for (const task of ['calm', 'runner-killed', 'gateway-killed', 'all-killed']) {
      const { choices, arcana } = await api.ask(test[1]!.input, task)
      expect(arcana).toMatchObject({ task, version: 1 })
      answers.push({ content: choices[0].message.content, labels: arcana.labels })
    }
    expect(answers.slice(1)).toEqual(Array(3).fill(answers[0]))
  })

  it('an answer being streamed when the runner dies ends without [DONE]', async ({ expect }) => {
    const response = await fetch(`${stack.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'smollm2-135m-instruct',
        messages: [{ role: 'user', content: 'Tell me a very long story about the sea.' }],
        max_tokens: 1500,
        temperature: 1,
        seed: 1,
        stream: true,
      }),
    })
    expect(response.status).toBe(200)
    let text = ''
    let killed = false
    const decoder = new TextDecoder()
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true })
      if (!killed && text.length > 2000) {
        killed = true
        await kill('runner')
      }
    }
    expect(killed).toBe(true)
    expect(text).toContain('data: {"error":')
    expect(text).not.toContain('[DONE]')
    await until(
      'the service answers again',
      async () => (await api.ask(test[0]!.input, 'calm').catch(() => null)) !== null,
      30_000,
    )
  })
})
