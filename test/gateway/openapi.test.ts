import { zipSync } from 'fflate'
import { exports } from 'cloudflare:workers'
import { beforeAll, describe, it, vi } from 'vitest'
import { createApp } from '../../src/app.ts'
import { QUERY_PARAMETERS } from '../../src/middleware/known-query.ts'
import { Documented } from './documented.ts'
import { client, projectId, runner, uploadExamples, useFreshProject } from './fresh-project.ts'
import { clientOf, makeProject, MODEL, publishTask, withCalls } from './harness.ts'
import { createJob, EXAMPLES, waitFor } from './label-jobs.ts'

useFreshProject()

let documented: Documented
beforeAll(async () => {
  documented = await Documented.fetch()
})

/** Asks by a route, its parameters filled in, and holds the answer against the document. */
async function ask(
  route: string,
  names: Readonly<Record<string, string | number>> = {},
  body?: unknown,
  { query = '', headers = {} }: { query?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; text: string; body: Record<string, unknown> }> {
  const [method, path] = route.split(' ') as [string, string]
  const at = path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(names[name]!))
  const response = await client.call(method, at + query, body, headers)
  const text = await documented.hold(route, response)
  const isJson = response.headers.get('content-type') === 'application/json'
  const value = isJson ? (JSON.parse(text) as Record<string, unknown>) : {}
  return { status: response.status, text, body: value }
}

const formOf = (parts: Readonly<Record<string, string | File>>): FormData => {
  const form = new FormData()
  for (const [name, value] of Object.entries(parts)) form.append(name, value)
  return form
}

const FUNCTION = { name: 'f', parameters: { type: 'object' } }
const CHAT = { model: MODEL, messages: [{ role: 'user', content: 'Hi' }] }

describe('the OpenAPI document', () => {
  it('has every route, and no other', ({ expect }) => {
    const routes = createApp()
      .routes.filter(({ method }) => method !== 'ALL')
      .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
    const operations = Object.entries(documented.document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect(operations.sort()).toEqual([...new Set(routes)].sort())
    const ids = Object.values(documented.document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('has the query parameters that routes read, and no other', ({ expect }) => {
    const described = Object.entries(documented.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { parameters = [] }]) => {
        const names = parameters.filter((each) => each.in === 'query').map(({ name }) => name)
        const route = `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`
        return names.length === 0 ? [] : [[route, names] as const]
      }),
    )
    expect(Object.fromEntries(described)).toEqual(QUERY_PARAMETERS)
  })

  it('needs a key of the scope that the route asks for', ({ expect }) => {
    const { paths } = documented.document
    expect(paths['/openapi.json']!['get']!.security).toEqual([])
    expect(paths['/v1/files']!['post']!.security).toEqual([{ apiKey: ['tasks:write'] }])
    expect(paths['/v1/tasks']!['get']!.security).toEqual([
      { apiKey: ['inference'] },
      { apiKey: ['tasks:write'] },
    ])
    expect(paths['/v1/organization/usage/completions']!['get']!.security).toEqual([
      { apiKey: ['admin'] },
    ])
  })
})

describe('the reference page', () => {
  it('names every operation and schema, and may load nothing', async ({ expect }) => {
    const response = await exports.default.fetch('http://gateway/docs')
    const html = await response.text()
    for (const methods of Object.values(documented.document.paths)) {
      for (const { operationId } of Object.values(methods)) {
        expect(html).toContain(`<details id="${operationId}">`)
      }
    }
    const targets = [...html.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id!)
    expect(targets.length).toBeGreaterThan(50)
    for (const id of new Set(targets)) expect(html).toContain(`id="${id}"`)
    expect(html).not.toMatch(/<script|<link|<img|https?:|style="|@import|url\(/)
    const policy = response.headers.get('content-security-policy') ?? ''
    expect(policy).toContain("default-src 'none'")
    const style = /<style>(.*)<\/style>/s.exec(html)![1]!
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(style))
    const hash = btoa(String.fromCharCode(...new Uint8Array(digest)))
    expect(policy).toContain(`style-src 'sha256-${hash}'`)
  })
})

describe('answers are as the document says:', () => {
  it('of models', async ({ expect }) => {
    await publishTask(projectId, 'news')
    for (const model of [MODEL, `${MODEL}:news`]) {
      for (const stream of [false, true]) {
        const options = { stream, ...(stream ? { stream_options: { include_usage: true } } : {}) }
        const chat = { ...CHAT, ...options, model, logprobs: true, top_logprobs: 2, user: 'x' }
        const answers = [
          await ask('POST /v1/chat/completions', {}, chat),
          await ask(
            'POST /v1/completions',
            {},
            {
              ...options,
              model,
              prompt: 'Once',
              logprobs: 2,
              echo: true,
              rotate_from: 0,
              service_tier: 'flex',
            },
          ),
          await ask(
            'POST /v1/responses',
            {},
            {
              stream,
              model,
              input: 'Hi',
              instructions: 'Be brief.',
              metadata: { a: 'b' },
              top_logprobs: 1,
            },
          ),
        ]
        expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
      }
    }
    const arms = { ...CHAT, arms: ['base', 'news'] }
    expect((await ask('POST /v1/compare', {}, arms)).status).toBe(200)
  })

  it('of experiments', async ({ expect }) => {
    await publishTask(projectId, 'news')
    const file = await uploadExamples(EXAMPLES)
    const asked = { file, arms: ['base', 'news', 'news*0.5'] }
    const made = await ask('POST /v1/experiments', {}, asked)
    expect(made.status).toBe(200)
    const id = made.body['id'] as string
    expect((await ask('GET /v1/experiments')).text).toContain(id)
    expect((await ask('GET /v1/experiments/:id', { id })).body).toEqual(made.body)
    expect((await ask('DELETE /v1/experiments/:id', { id })).status).toBe(200)
    expect((await ask('GET /v1/experiments/:id', { id })).status).toBe(404)
  })

  it('of models that call functions', async ({ expect }) => {
    runner.editEvents = withCalls
    for (const stream of [false, true]) {
      const tools = [{ type: 'function', function: FUNCTION }]
      const chat = await ask('POST /v1/chat/completions', {}, { ...CHAT, stream, tools })
      expect(chat.text).toContain('tool_calls')
      const asked = {
        model: MODEL,
        input: 'Hi',
        stream,
        tools: [{ type: 'function', ...FUNCTION }],
      }
      const response = await ask('POST /v1/responses', {}, asked)
      expect(response.text).toContain('function_call')
    }
  })

  it('of the tokenizer', async ({ expect }) => {
    expect((await ask('POST /tokenize', {}, { prompt: 'a b' })).status).toBe(200)
    await ask('POST /detokenize', {}, { tokens: [1] })
    await ask('GET /tokenizer_info')
    runner.isDown = true
    expect((await ask('POST /tokenize', {}, { prompt: 'a' })).status).toBe(503)
    expect((await ask('POST /v1/chat/completions', {}, CHAT)).status).toBe(503)
  })

  it('of files, jobs, models and tasks', async ({ expect }) => {
    const lines = new File(['{"input":"a","label":"b"}\n{"input":"c","label":"d"}'], 'a.jsonl')
    const form = formOf({ file: lines, purpose: 'fine-tune' })
    const id = (await ask('POST /v1/files', {}, form)).body['id'] as string
    await ask('GET /v1/files', {}, undefined, { query: '?limit=1&purpose=fine-tune' })
    await ask('GET /v1/files/:id', { id })
    await ask('GET /v1/files/:id/content', { id })
    const made = await createJob({ metadata: { team: 'a' } })
    const job = { id: made.id }
    await ask('GET /v1/fine_tuning/jobs', {}, undefined, { query: '?metadata[team]=a' })
    expect((await waitFor(made.id)).status).toBe('succeeded')
    await ask('GET /v1/fine_tuning/jobs/:id', job)
    await ask('GET /v1/fine_tuning/jobs/:id/events', job)
    await ask('GET /v1/fine_tuning/jobs/:id/checkpoints', job)
    expect((await ask('POST /v1/fine_tuning/jobs/:id/cancel', job)).status).toBe(400)
    expect((await ask('POST /v1/fine_tuning/jobs/:id/publish', job, { force: true })).status).toBe(
      400,
    )
    const again = await ask('POST /v1/fine_tuning/jobs', {}, { model: MODEL, training_file: id })
    await ask('POST /v1/fine_tuning/jobs/:id/cancel', { id: again.body['id'] as string })

    await ask('GET /v1/tasks')
    const shown = await ask('GET /v1/tasks/:name', { name: 'news' })
    expect(shown.text).toContain('"guard"')
    const news = { name: 'news', version: 1 }
    const asPeft = { query: '?format=peft' }
    await ask('GET /v1/tasks/:name/versions/:version/adapter', news, undefined, asPeft)
    const bytes = await (await client.call('GET', '/v1/tasks/news/versions/1/adapter')).bytes()
    await ask('GET /v1/tasks/:name/versions/:version/adapter', news)
    const version = formOf({ file: new File([bytes], 'a.safetensors') })
    expect((await ask('POST /v1/tasks/:name/versions', news, version)).status).toBe(200)
    const zip = new File([zipSync({})], 'a.zip')
    const bad = formOf({ file: zip, format: 'peft', version: JSON.stringify({ model: MODEL }) })
    expect((await ask('POST /v1/tasks/:name/versions', news, bad)).status).toBe(400)
    const promote = 'POST /v1/tasks/:name/promote'
    expect((await ask(promote, news, { version: 1, expected_live: 7 })).status).toBe(409)
    const isLive = shown.body['live_version']
    expect((await ask(promote, news, { version: 1, expected_live: isLive })).status).toBeLessThan(
      410,
    )
    const rollback = await ask('POST /v1/tasks/:name/rollback', news, { expected_live: 99 })
    expect(rollback.status).toBe(409)
    await ask('GET /v1/tasks/:name/versions', news, undefined, { query: '?limit=1' })
    await ask('GET /v1/tasks/:name/versions/:version', news)
    await ask('POST /v1/tasks/:name/versions/:version', news, { tags: ['best'], notes: 'x' })
    const retire = 'POST /v1/tasks/:name/versions/:version/retire'
    await ask(retire, news, { grace_seconds: 600 })
    await ask(retire, news, { grace_seconds: null })
    await ask('GET /v1/models')
    await ask('GET /v1/models', {}, undefined, { query: '?after=nothing' })
    for (const name of ['', ':news', ':news@1', ':news*0.5+news@2', ':none']) {
      await ask('GET /v1/models/:id', { id: `${MODEL}${name}` })
    }
    await ask('DELETE /v1/models/:id', { id: `${MODEL}:news` })
    await ask('DELETE /v1/tasks/:name', { name: 'news' })
    await publishTask(projectId, 'old')
    expect((await ask('DELETE /v1/tasks/:name', { name: 'old' })).status).toBe(200)
    await ask('DELETE /v1/files/:id', { id })
  })

  it('of batches', async ({ expect }) => {
    const url = '/v1/chat/completions'
    const line = JSON.stringify({ custom_id: 'a', method: 'POST', url, body: CHAT })
    const form = formOf({ file: new File([line], 'a.jsonl'), purpose: 'batch' })
    const file = (await ask('POST /v1/files', {}, form)).body['id'] as string
    const asked = { input_file_id: file, endpoint: url, completion_window: '24h' }
    const id = (await ask('POST /v1/batches', {}, asked)).body['id'] as string
    await ask('GET /v1/batches')
    await vi.waitFor(
      async () => {
        expect((await ask('GET /v1/batches/:id', { id })).body['status']).toBe('completed')
      },
      { timeout: 30_000 },
    )
    expect((await ask('POST /v1/batches/:id/cancel', { id })).status).toBe(409)
  })

  it('of the organisation', async ({ expect }) => {
    const projects = '/v1/organization/projects'
    const made = await ask(`POST ${projects}`, {}, { name: 'a' })
    const project = made.body['id'] as string
    await ask(`GET ${projects}`)
    await ask(`GET ${projects}/:project`, { project })
    await ask(`POST ${projects}/:project`, { project }, { name: 'b' })
    const limits = `${projects}/:project/rate_limits`
    const ofProject = { project, rateLimit: 'rl-project' }
    await ask(`POST ${limits}/:rateLimit`, ofProject, { max_requests_per_1_minute: 9 })
    await ask(`GET ${limits}`, { project })
    for (const kind of ['api_keys', 'service_accounts']) {
      const at = `${projects}/:project/${kind}`
      const key = (await ask(`POST ${at}`, { project }, { name: 'k' })).body['id'] as string
      await ask(`GET ${at}`, { project })
      await ask(`GET ${at}/:key`, { project, key })
      if (kind === 'api_keys') {
        await ask(`POST ${at}/:key`, { project, key }, { scopes: ['inference'] })
        await ask(`POST ${at}/:key/rotate`, { project, key }, { grace_seconds: 60 })
      }
      await ask(`DELETE ${at}/:key`, { project, key })
    }
    const admin = '/v1/organization/admin_api_keys'
    const key = (await ask(`POST ${admin}`, {}, { name: 'k' })).body['id'] as string
    await ask(`GET ${admin}`)
    await ask(`GET ${admin}/:key`, { key })
    await ask(`DELETE ${admin}/:key`, { key })
    await ask(`POST ${projects}/:project/archive`, { project })
    const query = `?start_time=${Math.floor(Date.now() / 1000) - 60}&group_by=model`
    const usage = await ask('GET /v1/organization/usage/completions', {}, undefined, { query })
    expect(usage.status).toBe(200)
  })

  it('of what needs no key, and of requests that are refused', async ({ expect }) => {
    for (const route of ['GET /', 'GET /docs', 'GET /openapi.json']) {
      expect((await ask(route)).status).toBe(200)
    }
    await ask('GET /healthz')
    const admin = clientOf((await makeProject({ organizationId: 'org-a' })).key)
    const limited = await makeProject({ organizationId: 'org-a' })
    const limits = `/v1/organization/projects/${limited.projectId}/rate_limits/rl-project`
    await admin.call('POST', limits, { max_requests_per_1_minute: 1 })
    const own = clientOf(limited.key)
    const answers = [await own.chat({}), await own.chat({})]
    for (const answer of answers) await documented.hold('POST /v1/chat/completions', answer)
    expect(answers.at(-1)!.status).toBe(429)
    expect(answers[0]!.headers.get('x-ratelimit-limit-requests')).toBe('1')
    const json = { 'content-type': 'application/json' }
    const large = `{"model":"${'a'.repeat(1 << 20)}"}`
    const chat = 'POST /v1/chat/completions'
    const refused = [
      await ask(chat, {}, {}),
      await ask(chat, {}, CHAT, { headers: { authorization: 'Bearer none' } }),
      await ask(chat, {}, { ...CHAT, model: 'none' }),
      await ask(chat, {}, large, { headers: json }),
      await ask(chat, {}, CHAT, { headers: { ...json, 'content-encoding': 'br' } }),
    ]
    expect(refused.map(({ status }) => status)).toEqual([400, 401, 404, 413, 415])
    const { key } = await makeProject({ scopes: ['inference'] })
    const headers = { authorization: `Bearer ${key}` }
    expect((await ask('GET /v1/files', {}, undefined, { headers })).status).toBe(403)
  })

  it('and every operation was tried', ({ expect }) => {
    const ids = Object.values(documented.document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    )
    expect([...documented.seen].sort()).toEqual(ids.sort())
  })
})
