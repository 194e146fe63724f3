import { env, exports } from 'cloudflare:workers'
import OpenAI from 'openai'
import { beforeAll, beforeEach, describe, it, vi } from 'vitest'
import { KEY_SCOPES } from '../../src/protocol/key-scopes.ts'
import { scopesOf } from '../../src/middleware/require-scope.ts'
import { clientOf, makeProject, MODEL } from './harness.ts'
import { RunnerDouble } from './runner-double.ts'

type Json = Record<string, unknown>
const read = async (response: Response): Promise<Json> => response.json()

const sdkOf = (key: string) =>
  new OpenAI({
    apiKey: key,
    adminAPIKey: key,
    baseURL: 'http://gateway/v1',
    maxRetries: 0,
    fetch: (url, init) => exports.default.fetch(url, init),
  })

describe('an organisation', () => {
  let admin: ReturnType<typeof sdkOf>
  let call: ReturnType<typeof clientOf>['call']
  let organizationId: string
  beforeAll(() => {
    new RunnerDouble().install()
  })
  beforeEach(async () => {
    organizationId = `org-${crypto.randomUUID()}`
    const { key } = await makeProject({ organizationId })
    admin = sdkOf(key)
    call = clientOf(key).call
  })
  const createKey = async (project: string, body: Json = { name: 'k' }): Promise<Json> =>
    read(await call('POST', `/v1/organization/projects/${project}/api_keys`, body))
  const statusOf = async (key: unknown, method = 'GET', path = '/v1/models') =>
    (await clientOf(key as string).call(method, path)).status

  it('makes, lists, renames and archives projects for the official client', async ({ expect }) => {
    const { projects } = admin.admin.organization
    const made = await projects.create({ name: 'Support' })
    expect(made).toMatchObject({
      object: 'organization.project',
      name: 'Support',
      status: 'active',
      archived_at: null,
    })
    expect(await projects.retrieve(made.id)).toEqual(made)
    expect((await projects.update(made.id, { name: 'Care' })).name).toBe('Care')
    await projects.create({ name: 'Second' })
    const names: unknown[] = []
    for await (const { name } of projects.list({ limit: 1 })) names.push(name)
    // The newest first; the last is the bootstrap's own.
    expect(names.slice(0, 2)).toEqual(['Second', 'Care'])
    expect(names).toHaveLength(3)
    const { value } = await createKey(made.id)
    expect(await statusOf(value)).toBe(200)
    const archived = await projects.archive(made.id)
    expect(archived.status).toBe('archived')
    expect((await projects.archive(made.id)).archived_at).toBe(archived.archived_at)
    const later = []
    for await (const { id } of projects.list()) later.push(id)
    expect(later).not.toContain(made.id)
    const all = []
    for await (const { id } of projects.list({ include_archived: true })) all.push(id)
    expect(all).toContain(made.id)
    await expect(projects.update(made.id, { name: 'x' })).rejects.toMatchObject({ status: 404 })
    const refused = await createKey(made.id)
    expect(refused).toMatchObject({ error: { code: 'project_archived' } })
  })

  it('tells a key once, and keeps its hash and first characters alone', async ({ expect }) => {
    const project = await admin.admin.organization.projects.create({ name: 'p' })
    const made = await createKey(project.id, { name: 'web', scopes: ['inference'] })
    const value = made['value'] as string
    expect(value).toMatch(/^sk-arcana-[\w-]{32}$/)
    const { apiKeys } = admin.admin.organization.projects
    const found = await apiKeys.retrieve(made['id'] as string, { project_id: project.id })
    expect(found).toMatchObject({
      object: 'organization.project.api_key',
      name: 'web',
      scopes: ['inference'],
      redacted_value: `${value.slice(0, 14)}********`,
      expires_at: null,
      last_used_at: null,
      owner: { type: 'service_account', service_account: { name: 'web', role: 'member' } },
    })
    expect(found).not.toHaveProperty('value')
    const rows = await env.DB.prepare('SELECT * FROM keys WHERE id = ?').bind(made['id']).all()
    expect(JSON.stringify(rows.results)).not.toContain(value)
    expect(await statusOf(value)).toBe(200)
    await vi.waitFor(async () => {
      const used = await apiKeys.retrieve(made['id'] as string, { project_id: project.id })
      expect(used.last_used_at).toBeGreaterThan(0)
    })
  })

  it('makes service accounts, each with its key', async ({ expect }) => {
    const { projects } = admin.admin.organization
    const { id } = await projects.create({ name: 'p' })
    const account = await projects.serviceAccounts.create(id, { name: 'bot' })
    expect(account).toMatchObject({
      object: 'organization.project.service_account',
      role: 'member',
      api_key: { object: 'organization.project.service_account.api_key', name: 'bot' },
    })
    expect(await statusOf(account.api_key?.value)).toBe(200)
    const listed = []
    for await (const one of projects.serviceAccounts.list(id)) listed.push(one.id)
    expect(listed).toEqual([account.id])
    const gone = await projects.serviceAccounts.delete(account.id, { project_id: id })
    expect(gone.deleted).toBe(true)
    await expect(
      projects.serviceAccounts.retrieve(account.id, { project_id: id }),
    ).rejects.toMatchObject({ status: 404 })
  })

  it('takes a key back within five seconds, though an isolate knows it', async ({ expect }) => {
    const { projects } = admin.admin.organization
    const { id } = await projects.create({ name: 'p' })
    const made = await createKey(id)
    expect(await statusOf(made['value'])).toBe(200)
    await projects.apiKeys.delete(made['id'] as string, { project_id: id })
    const startedAtMs = Date.now()
    await vi.waitFor(async () => {
      expect(await statusOf(made['value'])).toBe(401)
    }, 10_000)
    expect(Date.now() - startedAtMs).toBeLessThan(6_000)
    const keys = []
    for await (const key of projects.apiKeys.list(id)) keys.push(key.id)
    expect(keys).toEqual([])
  })

  it('ends a key at its time, also where an isolate knows it', async ({ expect }) => {
    const { id } = await admin.admin.organization.projects.create({ name: 'p' })
    const made = await createKey(id, { name: 'brief', expires_in_seconds: 1 })
    expect(await statusOf(made['value'])).toBe(200)
    await vi.waitFor(async () => {
      expect(await statusOf(made['value'])).toBe(401)
    }, 3_000)
    const path = `/v1/organization/projects/${id}/api_keys/${made['id'] as string}`
    const late = await call('POST', path, { expires_in_seconds: 60 })
    expect(await read(late)).toMatchObject({ error: { code: 'key_expired' } })
    expect((await call('POST', `${path}/rotate`, {})).status).toBe(400)
  })

  it('rotates a key: the new one works at once, the old one through its grace', async ({
    expect,
  }) => {
    const { id } = await admin.admin.organization.projects.create({ name: 'p' })
    const old = await createKey(id, { name: 'k', scopes: ['inference'], expires_in_seconds: 500 })
    const path = `/v1/organization/projects/${id}/api_keys/${old['id'] as string}`
    const fresh = await read(await call('POST', `${path}/rotate`, { grace_seconds: 100 }))
    expect(fresh).toMatchObject({ name: 'k', scopes: ['inference'] })
    expect(fresh['id']).not.toBe(old['id'])
    const lifetime = (fresh['expires_at'] as number) - (fresh['created_at'] as number)
    expect(Math.abs(lifetime - 500)).toBeLessThanOrEqual(1)
    expect([await statusOf(old['value']), await statusOf(fresh['value'])]).toEqual([200, 200])
    const ending = await read(await call('GET', path))
    const left = (ending['expires_at'] as number) - Date.now() / 1000
    expect(left).toBeGreaterThan(90)
    expect(left).toBeLessThanOrEqual(100)
  })

  it('changes what a key may do', async ({ expect }) => {
    const { projects } = admin.admin.organization
    const { id } = await projects.create({ name: 'p' })
    const made = await createKey(id, { name: 'k', scopes: ['tasks:write'] })
    const keyId = made['id'] as string
    const changed = await projects.apiKeys.update(keyId, {
      project_id: id,
      scopes: ['inference', 'tasks:write'],
    })
    expect(changed).toMatchObject({ scopes: ['inference', 'tasks:write'] })
    for (const body of [{ scopes: [] }, {}, { scopes: ['all'] }, { expires_in_seconds: 0 }]) {
      const path = `/v1/organization/projects/${id}/api_keys/${keyId}`
      expect((await call('POST', path, body)).status).toBe(400)
    }
  })

  it('has keys for itself alone, which ask no model', async ({ expect }) => {
    const made = await admin.admin.organization.adminAPIKeys.create({ name: 'ops' })
    const key = made.value
    expect(made).toMatchObject({ object: 'organization.admin_api_key', scopes: ['admin'] })
    expect(await statusOf(key, 'GET', '/v1/organization/projects')).toBe(200)
    const refused = await clientOf(key).chat({})
    expect(refused.status).toBe(403)
    expect(await read(refused)).toMatchObject({ error: { code: 'missing_scope' } })
    const listed = []
    for await (const one of admin.admin.organization.adminAPIKeys.list()) listed.push(one.id)
    expect(listed).toEqual([made.id])
    expect((await admin.admin.organization.adminAPIKeys.delete(made.id)).deleted).toBe(true)
  })

  it('sees nothing of another organisation', async ({ expect }) => {
    const { id } = await admin.admin.organization.projects.create({ name: 'p' })
    const made = await createKey(id)
    const other = clientOf((await makeProject({ organizationId: `${organizationId}-b` })).key)
    const project = `/v1/organization/projects/${id}`
    const paths: [string, string, unknown?][] = [
      ['GET', project],
      ['POST', project, { name: 'mine' }],
      ['POST', `${project}/archive`],
      ['GET', `${project}/api_keys`],
      ['POST', `${project}/api_keys`, { name: 'k' }],
      ['GET', `${project}/api_keys/${made['id'] as string}`],
      ['POST', `${project}/api_keys/${made['id'] as string}`, { name: 'k' }],
      ['POST', `${project}/api_keys/${made['id'] as string}/rotate`, {}],
      ['DELETE', `${project}/api_keys/${made['id'] as string}`],
      ['GET', `${project}/service_accounts`],
      ['POST', `${project}/service_accounts`, { name: 'k' }],
      ['GET', `${project}/service_accounts/${made['id'] as string}`],
      ['DELETE', `${project}/service_accounts/${made['id'] as string}`],
    ]
    for (const [method, path, body] of paths) {
      const seen = await other.call(method, path, body)
      const absent = await other.call(method, path.replace(id, 'proj_none'), body)
      expect(seen.status).toBe(404)
      expect((await seen.text()).replaceAll(id, 'proj_none')).toBe(await absent.text())
    }
    expect(await statusOf(made['value'])).toBe(200)
  })

  it('counts usage by project, key and model in buckets', async ({ expect }) => {
    const { projects, usage } = admin.admin.organization
    const startSeconds = Math.floor(Date.now() / 1000)
    const ids: string[] = []
    for (const numRequests of [1, 2]) {
      const { id } = await projects.create({ name: 'p' })
      ids.push(id)
      const client = clientOf((await createKey(id))['value'] as string)
      for (let i = 0; i < numRequests; i++) {
        expect((await client.chat({ max_tokens: 2 })).status).toBe(200)
      }
    }
    const query = { start_time: startSeconds, bucket_width: '1d' as const }
    const grouped = await vi.waitFor(async () => {
      const page = await usage.completions({
        ...query,
        project_ids: ids,
        group_by: ['project_id', 'model'],
      })
      const results = page.data.flatMap((bucket) => bucket.results) as unknown as Json[]
      expect(results.reduce((sum, one) => sum + (one['num_model_requests'] as number), 0)).toBe(3)
      return results
    })
    expect(grouped).toHaveLength(2)
    for (const [i, id] of ids.entries()) {
      const own = grouped.find((one) => one['project_id'] === id)
      expect(own).toMatchObject({
        object: 'organization.usage.completions.result',
        model: MODEL,
        api_key_id: null,
        num_model_requests: i + 1,
      })
      expect(own?.['input_tokens']).toBeGreaterThan(0)
      expect(own?.['output_tokens']).toBeGreaterThan(0)
    }
    const one = await usage.completions({
      ...query,
      project_ids: [ids[0]!],
      group_by: ['api_key_id'],
    })
    expect(JSON.stringify(one.data)).toMatch(/"api_key_id":"key_/)
    const minutes = await usage.completions({
      start_time: startSeconds - 3600,
      end_time: startSeconds,
      bucket_width: '1m',
      limit: 7,
    })
    expect(minutes.data).toHaveLength(7)
    expect(minutes.has_more).toBe(true)
    const next = await usage.completions({
      start_time: startSeconds - 3600,
      end_time: startSeconds,
      bucket_width: '1m',
      limit: 7,
      page: minutes.next_page!,
    })
    expect(next.data[0]!.start_time).toBe(minutes.data[6]!.end_time)
    for (const bad of ['limit=32', 'group_by=user', 'end_time=1', 'user_ids=a', 'start_time=x']) {
      const path = `/v1/organization/usage/completions?start_time=5&${bad}`
      expect((await call('GET', path)).status).toBe(400)
    }
  })
})

describe('what a key may do', () => {
  beforeAll(() => {
    new RunnerDouble().install()
  })
  it('is asked of every route', async ({ expect }) => {
    const clients = await Promise.all(
      KEY_SCOPES.map(async (scope) => {
        const { key } = await makeProject({ scopes: [scope] })
        return [scope, clientOf(key)] as const
      }),
    )
    const routes: [string, string, unknown, readonly string[]][] = [
      ['POST', '/v1/chat/completions', {}, ['inference']],
      ['POST', '/v1/completions', {}, ['inference']],
      ['POST', '/v1/responses', {}, ['inference']],
      ['POST', '/v1/compare', {}, ['inference']],
      ['POST', '/tokenize', {}, ['inference']],
      ['GET', '/v1/models', undefined, ['inference', 'tasks:write']],
      ['DELETE', '/v1/models/x', undefined, ['tasks:write']],
      ['GET', '/v1/tasks', undefined, ['inference', 'tasks:write']],
      ['GET', '/v1/tasks/x', undefined, ['inference', 'tasks:write']],
      ['GET', '/v1/tasks/x/versions/1/adapter', undefined, ['tasks:write']],
      ['POST', '/v1/tasks/x/promote', {}, ['tasks:write']],
      ['POST', '/v1/tasks/x/versions', {}, ['tasks:write']],
      ['DELETE', '/v1/tasks/x', undefined, ['tasks:write']],
      ['GET', '/v1/files', undefined, ['tasks:write']],
      ['GET', '/v1/files/x/content', undefined, ['tasks:write']],
      ['POST', '/v1/fine_tuning/jobs', {}, ['tasks:write']],
      ['GET', '/v1/fine_tuning/jobs', undefined, ['tasks:write']],
      ['GET', '/v1/organization/projects', undefined, ['admin']],
      ['GET', '/v1/organization/usage/completions', undefined, ['admin']],
    ]
    for (const [method, path, body, allowed] of routes) {
      expect([path, scopesOf(method, path)]).toEqual([path, allowed])
      for (const [scope, client] of clients) {
        const response = await client.call(method, path, body)
        const text = await response.text()
        expect([path, scope, text.includes('missing_scope')]).toEqual([
          path,
          scope,
          !allowed.includes(scope),
        ])
        if (!allowed.includes(scope)) expect(response.status).toBe(403)
      }
    }
  })

  it('lets only a key that may go before others', async ({ expect }) => {
    const usual = clientOf((await makeProject({ scopes: ['inference'] })).key)
    expect((await usual.chat({})).status).toBe(200)
    const refused = await usual.chat({ service_tier: 'priority' })
    expect(refused.status).toBe(403)
    expect(await read(refused)).toMatchObject({
      error: {
        code: 'missing_scope',
        message: expect.stringContaining('inference:priority') as string,
      },
    })
    const urgent = clientOf(
      (await makeProject({ scopes: ['inference', 'inference:priority'] })).key,
    )
    expect((await urgent.chat({ service_tier: 'priority' })).status).toBe(200)
  })
})
