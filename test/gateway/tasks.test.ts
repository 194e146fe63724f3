import { env } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import { publishVersion, type NewVersion } from '../../src/db/versions.ts'
import { accepted, client, projectId, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'

useFreshProject()

const promote = (name: string, version: number, expected_live: number) =>
  client.call('POST', `/v1/tasks/${name}/promote`, { version, expected_live })

describe('tasks', () => {
  it('are listed with their live versions, and shown with all of them', async ({ expect }) => {
    await publishTask(projectId, 'b')
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'a', { angle: 0.1 })
    expect(await (await client.call('GET', '/v1/tasks')).json()).toMatchObject({
      object: 'list',
      data: [
        { name: 'a', live_version: 2, fine_tuned_model: `${MODEL}:a` },
        { name: 'b', live_version: 1 },
      ],
    })
    expect(await (await client.call('GET', '/v1/tasks/a')).json()).toMatchObject({
      name: 'a',
      versions: [
        { version: 2, is_live: true },
        { version: 1, is_live: false },
      ],
    })
    expect((await client.call('GET', '/v1/tasks/c')).status).toBe(404)
  })

  it('are listed in pages, which go on after a task that is gone', async ({ expect }) => {
    for (const name of ['b', 'd', 'a', 'c']) await publishTask(projectId, name)
    type Page = { data: { id: string }[]; has_more: boolean; last_id: string | null }
    const page = async (path: string): Promise<[string[], boolean]> => {
      const {
        data,
        has_more: hasMore,
        last_id: last,
      } = await accepted<Page>(client.call('GET', path))
      expect(last).toBe(data.at(-1)?.id ?? null)
      return [data.map(({ id }) => id), hasMore]
    }
    expect(await page('/v1/tasks?limit=2')).toEqual([['a', 'b'], true])
    await client.call('DELETE', '/v1/tasks/b')
    expect(await page('/v1/tasks?limit=2&after=b')).toEqual([['c', 'd'], false])
    expect(await page('/v1/tasks?limit=2&order=desc')).toEqual([['d', 'c'], true])
    expect(await page('/v1/tasks?after=zz')).toEqual([[], false])
    expect(await page('/v1/models?limit=1')).toEqual([[MODEL], true])
    expect(await page(`/v1/models?limit=2&after=${MODEL}`)).toEqual([
      [`${MODEL}:a`, `${MODEL}:c`],
      true,
    ])
    expect(await page(`/v1/models?after=${MODEL}:c`)).toEqual([[`${MODEL}:d`], false])
    for (const path of [
      '/v1/tasks?limit=0',
      '/v1/tasks?limit=1001',
      '/v1/tasks?order=up',
      '/v1/models?limit=x',
      '/v1/models?order=asc',
    ]) {
      expect((await client.call('GET', path)).status).toBe(400)
    }
    expect((await client.call('GET', '/v1/models?after=nothing')).status).toBe(404)
  })

  it('move to a version only from the expected one', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'a')
    const back = await promote('a', 1, 2)
    expect(back.status).toBe(200)
    expect(await back.json()).toMatchObject({ name: 'a', live_version: 1 })
    const answer = await client.chat({}, { 'x-task': 'a' })
    expect(answer.headers.get('x-arcana-version')).toBe('1')
    const late = await promote('a', 1, 2)
    expect(late.status).toBe(409)
    expect(await late.json()).toMatchObject({
      error: { code: 'live_version_conflict', param: 'expected_live' },
    })
    expect((await promote('a', 3, 1)).status).toBe(404)
    expect((await promote('b', 1, 1)).status).toBe(404)
    expect((await client.call('POST', '/v1/tasks/a/promote', { version: 2 })).status).toBe(400)
  })

  it('moved by many callers at once move for exactly one', async ({ expect }) => {
    for (let i = 0; i < 6; i++) await publishTask(projectId, 'a')
    const answers = await Promise.all([1, 2, 3, 4, 5].map((version) => promote('a', version, 6)))
    const statuses = answers.map(({ status }) => status).sort()
    expect(statuses).toEqual([200, 409, 409, 409, 409])
  })

  it('are deleted with their versions, and never reuse version numbers', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'a')
    expect((await client.chat({}, { 'x-task': 'a@1' })).status).toBe(200)
    const gone = await client.call('DELETE', '/v1/tasks/a')
    expect(await gone.json()).toMatchObject({ id: 'a', deleted: true })
    expect((await client.call('DELETE', '/v1/tasks/a')).status).toBe(404)
    expect((await client.call('GET', '/v1/tasks/a')).status).toBe(404)
    expect((await client.chat({}, { 'x-task': 'a' })).status).toBe(404)
    expect((await client.chat({}, { 'x-task': 'a@1' })).status).toBe(404)
    const list = await (await client.call('GET', '/v1/models')).json<{ data: unknown[] }>()
    expect(list.data).toHaveLength(1)

    const anew = await publishTask(projectId, 'a', { angle: 0.2 })
    expect(anew.number).toBe(3)
    expect((await client.chat({}, { 'x-task': 'a@2' })).status).toBe(404)
    expect((await promote('a', 2, 3)).status).toBe(404)
    const answer = await client.chat({}, { 'x-task': 'a' })
    expect(answer.headers.get('x-arcana-version')).toBe('3')
    expect(await (await client.call('GET', '/v1/tasks/a')).json()).toMatchObject({
      versions: [{ version: 3 }],
    })
  })
})

describe('publication', () => {
  const version = (jobId: string): NewVersion => ({
    projectId,
    task: 'a',
    digest: 'd'.repeat(64),
    model: MODEL,
    modelDigest: 'a'.repeat(64),
    adapterDigest: 'b'.repeat(64),
    scope: 'generated',
    layers: [1],
    instructions: null,
    position: 'before',
    labels: null,
    bias: null,
    temperature: null,
    minConfidence: null,
    fallbackLabel: null,
    reportKey: 'none',
    jobId,
    createdAtMs: 1,
  })
  const live = async () =>
    (await (await client.call('GET', '/v1/tasks/a')).json<{ live_version: number }>()).live_version

  it('replayed gives the same number and undoes no later change', async ({ expect }) => {
    expect(await publishVersion(env.DB, version(`${projectId}-1`))).toBe(1)
    expect(await publishVersion(env.DB, version(`${projectId}-2`))).toBe(2)
    await promote('a', 1, 2)
    expect(await publishVersion(env.DB, version(`${projectId}-2`))).toBe(2)
    expect(await live()).toBe(1)
    await client.call('DELETE', '/v1/tasks/a')
    expect(await publishVersion(env.DB, version(`${projectId}-2`))).toBe(2)
    expect((await client.call('GET', '/v1/tasks/a')).status).toBe(404)
  })

  it('by many jobs at once gives each its own number', async ({ expect }) => {
    const numbers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => publishVersion(env.DB, version(`${projectId}-${i}`))),
    )
    expect(numbers.sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(await live()).toBe(8)
  })
})
