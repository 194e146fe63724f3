/** One gateway in front of two base models. Each has a runner of its own. */
import { createExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, beforeEach, describe, it, vi } from 'vitest'
import { createApp } from '../../src/app.ts'
import { publishVersion } from '../../src/db/versions.ts'
import { configOf, type Bindings } from '../../src/env.ts'
import { accepted } from './fresh-project.ts'
import { clientOf, makeProject, MODEL, publishTask, type Client } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

const OTHER = 'other-model'
const OTHER_DIGEST = 'c'.repeat(64)

let first: RunnerDouble
let second: RunnerDouble
let client: Client
let projectId: string

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  first = new RunnerDouble()
  second = new RunnerDouble('http://other.test')
  second.slug = OTHER
  second.modelDigest = OTHER_DIGEST
  first.install(second)
  const project = await makeProject()
  projectId = project.projectId
  // A pool of its own.
  const bindings = {
    ...env,
    BASE_MODELS: `${MODEL},${OTHER}`,
    RUNNER_URLS: `${first.url},${second.url}`,
  }
  client = clientOf(project.key, {
    fetch: async (input, init) =>
      createApp().fetch(new Request(input, init), bindings, createExecutionContext()),
  })
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const publishOther = (name: string) =>
  publishTask(projectId, name, { model: OTHER, modelDigest: OTHER_DIGEST, adapterDigest: null })

const errorOf = async (response: Response) => {
  const { error } = await response.json<{ error: { code: string; message: string } }>()
  return { status: response.status, code: error.code, message: error.message }
}

describe('two base models', () => {
  it('are listed with the tasks of each, page by page', async ({ expect }) => {
    await publishTask(projectId, 'b-task')
    await publishOther('a-task')
    const all = [MODEL, OTHER, `${OTHER}:a-task`, `${MODEL}:b-task`]
    type List = { data: { id: string }[]; has_more: boolean }
    const list = await accepted<List>(client.call('GET', '/v1/models'))
    expect(list.data.map(({ id }) => id)).toEqual(all)
    const paged: string[] = []
    for (let after = ''; ; after = `&after=${paged.at(-1)}`) {
      const page = await accepted<List>(client.call('GET', `/v1/models?limit=1${after}`))
      paged.push(...page.data.map(({ id }) => id))
      if (!page.has_more) break
    }
    expect(paged).toEqual(all)
    const tasks = await accepted<{ data: Record<string, unknown>[] }>(
      client.call('GET', '/v1/tasks'),
    )
    expect(tasks.data.map((task) => [task['model'], task['fine_tuned_model']])).toEqual([
      [OTHER, `${OTHER}:a-task`],
      [MODEL, `${MODEL}:b-task`],
    ])
  })

  it('answer on their own runners alone', async ({ expect }) => {
    for (const model of [MODEL, OTHER, OTHER]) {
      const answer = await client.chat({ model })
      expect(answer.status).toBe(200)
      expect(await answer.json()).toMatchObject({ model })
    }
    expect([first, second].map((double) => double.generateRequests.length)).toEqual([1, 2])
    second.isDown = true
    vi.setSystemTime(Date.now() + 10_000)
    expect(await errorOf(await client.chat({ model: OTHER }))).toMatchObject({
      status: 503,
      code: 'no_runner',
    })
    expect((await client.chat({ model: MODEL })).status).toBe(200)
  })

  it('have a health of their own', async ({ expect }) => {
    second.isDown = true
    const response = await client.call('GET', '/healthz')
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({
      status: 'ok',
      models: [
        { id: MODEL, ready_runners: 1 },
        { id: OTHER, ready_runners: 0 },
      ],
    })
  })

  it('do not answer for each other’s tasks', async ({ expect }) => {
    await publishTask(projectId, 'news')
    await publishOther('mood')
    for (const [model, headers] of [
      [`${OTHER}:news`, {}],
      [OTHER, { 'x-task': 'news' }],
      [`${MODEL}:mood@1`, {}],
    ] as const) {
      const error = await errorOf(await client.chat({ model }, headers))
      expect(error).toMatchObject({ status: 400, code: 'adapter_wrong_model' })
      expect(error.message).toMatch(/was learnt on .*; it cannot be applied to/)
    }
    expect((await client.chat({ model: `${OTHER}:mood` })).status).toBe(200)
    expect(second.generateRequests).toHaveLength(1)
    for (const method of ['GET', 'DELETE']) {
      const error = await errorOf(await client.call(method, `/v1/models/${OTHER}:news`))
      expect(error).toMatchObject({ status: 404, code: 'model_not_found' })
    }
    expect((await client.call('GET', `/v1/models/${MODEL}:news`)).status).toBe(200)
  })

  it('are the only ones: another name is model_not_found', async ({ expect }) => {
    for (const model of ['third', 'third:news', `${MODEL}x`]) {
      const error = await errorOf(await client.chat({ model }))
      expect(error).toMatchObject({ status: 404, code: 'model_not_found' })
    }
  })

  it('do not share a task’s name within a project', async ({ expect }) => {
    const { number } = await publishTask(projectId, 'news')
    await expect(publishOther('news')).rejects.toMatchObject({
      status: 409,
      code: 'task_of_other_model',
    })
    const versions = await env.DB.prepare(
      'SELECT * FROM versions WHERE project_id = ? AND task = ?',
    )
      .bind(projectId, 'news')
      .all()
    expect(versions.results).toHaveLength(1)
    const promotions = await env.DB.prepare(
      'SELECT version FROM promotions WHERE project_id = ? AND task = ?',
    )
      .bind(projectId, 'news')
      .all()
    expect(promotions.results).toEqual([{ version: number }])
    const task = await accepted(client.call('GET', '/v1/tasks/news'))
    expect(task).toMatchObject({ model: MODEL, live_version: number })
    // A job learns of it before its search.
    const form = new FormData()
    form.append(
      'file',
      new File(['{"input":"a","label":"b"}\n{"input":"c","label":"d"}'], 'a.jsonl'),
    )
    form.append('purpose', 'fine-tune')
    const file = await accepted<{ id: string }>(client.call('POST', '/v1/files', form))
    const job = { model: OTHER, training_file: file.id, suffix: 'news' }
    expect(await errorOf(await client.call('POST', '/v1/fine_tuning/jobs', job))).toMatchObject({
      status: 409,
      code: 'task_of_other_model',
    })
    // Once the task is deleted its name is free for any model.
    expect((await client.call('DELETE', '/v1/tasks/news')).status).toBe(200)
    expect((await publishOther('news')).number).toBe(2)
    expect(await accepted(client.call('GET', '/v1/tasks/news'))).toMatchObject({ model: OTHER })
  })
})

describe('the setting of base models', () => {
  const read = (variables: Partial<Bindings>) =>
    configOf({ RUNNER_URLS: 'http://r', RUNNER_SECRET: 's', ...variables } as Bindings).baseModels

  it('is a list, or the older single name, or the default', ({ expect }) => {
    expect(read({ BASE_MODELS: ' a, b ,a' })).toEqual(['a', 'b'])
    expect(read({ BASE_MODEL: 'one' })).toEqual(['one'])
    expect(read({})).toEqual([MODEL])
    expect(() => read({ BASE_MODELS: ' , ' })).toThrow(/BASE_MODELS/)
  })

  it('publishes a version of a repeated step once, whatever became of its task', async ({
    expect,
  }) => {
    const { number } = await publishTask(projectId, 'again', { jobId: `${projectId}-job` })
    const row = await env.DB.prepare('SELECT * FROM versions WHERE job_id = ?')
      .bind(`${projectId}-job`)
      .first<Record<string, string>>()
    const version = {
      projectId,
      task: 'again',
      digest: row!['digest']!,
      model: MODEL,
      modelDigest: row!['model_digest']!,
      adapterDigest: null,
      scope: 'generated' as const,
      layers: [],
      instructions: null,
      position: 'before' as const,
      labels: null,
      bias: null,
      temperature: null,
      minConfidence: null,
      fallbackLabel: null,
      reportKey: 'none',
      jobId: `${projectId}-job`,
      createdAtMs: Date.now(),
    }
    await client.call('DELETE', '/v1/tasks/again')
    await publishOther('again')
    expect(await publishVersion(env.DB, version)).toBe(number)
  })
})
