import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import type { Task, TaskVersion, TaskWithVersions } from '../../src/protocol/arcana/tasks.ts'
import {
  accepted,
  client,
  finishJob,
  postJob,
  projectId,
  useFreshProject,
} from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'

useFreshProject()

type List = { data: TaskVersion[]; has_more: boolean; last_id: string | null }

const post = (path: string, body: object) => client.call('POST', `/v1/tasks/${path}`, body)
const list = (query = '') => accepted<List>(client.call('GET', `/v1/tasks/a/versions${query}`))
const rollback = (expected_live: number) => post('a/rollback', { expected_live })
const promote = (version: number, expected_live: number) =>
  post('a/promote', { version, expected_live })
const ask = (selection: string) => client.chat({}, { 'x-task': selection })

async function errorOf(answer: Promise<Response>) {
  const response = await answer
  const { error } = await response.json<{ error: { code: string; message: string } }>()
  return { status: response.status, code: error.code, message: error.message }
}

describe('versions', () => {
  it('carry tags and notes from their job on, which can be changed and listed by', async ({
    expect,
  }) => {
    const created = await accepted<{ id: string; method: object }>(
      postJob(
        {
          hyperparameters: { optimizer: 'random', n_trials: 2 },
          guard: 'report',
          tags: ['2026-11', 'nightly'],
          notes: 'From the new examples.',
        },
        Array.from({ length: 8 }, (_, i) => ({ input: `${i}`, label: i % 2 ? 'x' : 'y' })),
        { suffix: 'a' },
      ),
    )
    expect(created).toMatchObject({ method: { rotation: { tags: ['2026-11', 'nightly'] } } })
    await finishJob(created.id)
    await publishTask(projectId, 'a', { tags: ['nightly'] })
    await publishTask(projectId, 'a')
    const path = '/v1/tasks/a/versions/1'
    const first = await accepted<TaskVersion>(client.call('GET', path))
    expect(first).toMatchObject({
      tags: ['2026-11', 'nightly'],
      notes: 'From the new examples.',
      retires_at: null,
      report: { guard: {} },
    })
    expect((await list('?tag=nightly')).data.map(({ version }) => version)).toEqual([2, 1])
    expect((await list()).data[0]).toMatchObject({ version: 3, tags: [], notes: null })
    expect(await (await client.call('POST', path, { tags: ['best'] })).json()).toMatchObject({
      tags: ['best'],
      notes: 'From the new examples.',
    })
    await client.call('POST', path, { notes: null })
    expect((await list('?tag=nightly')).data.map(({ version }) => version)).toEqual([2])
    expect((await list('?tag=best')).data[0]).toMatchObject({ tags: ['best'], notes: null })
    for (const body of [{ tags: ['x', 'x'] }, { tags: ['a b'] }, { notes: 1 }, { label: 'x' }]) {
      expect((await client.call('POST', path, body)).status).toBe(400)
    }
    expect((await client.call('POST', '/v1/tasks/a/versions/4', {})).status).toBe(404)
  })

  it('are listed in pages, and a task shows the newest of many', async ({ expect }) => {
    for (let i = 0; i < 23; i++) await publishTask(projectId, 'a', { adapterDigest: null })
    const seen: number[] = []
    for (let after = ''; ;) {
      const page = await list(`?limit=10${after}`)
      seen.push(...page.data.map(({ version }) => version))
      if (!page.has_more) break
      after = `&after=${page.last_id}`
    }
    expect(seen).toEqual(Array.from({ length: 23 }, (_, i) => 23 - i))
    const ascending = await list('?order=asc&limit=2&after=a@3')
    expect(ascending.data.map(({ id }) => id)).toEqual(['a@4', 'a@5'])
    expect(ascending.data[0]).not.toHaveProperty('report')
    expect((await client.call('GET', '/v1/tasks/a/versions?after=b@1')).status).toBe(400)
    const task = await accepted<TaskWithVersions>(client.call('GET', '/v1/tasks/a'))
    expect(task.versions.map(({ version }) => version)).toEqual(seen.slice(0, 20))
    expect(task.has_more_versions).toBe(true)
  })

  it('answer by the beginning of their digest, in the header and in the model', async ({
    expect,
  }) => {
    const one = `${'1'.repeat(12)}${'a'.repeat(52)}`
    const other = `${'1'.repeat(12)}${'b'.repeat(52)}`
    for (const digest of [one, other, one]) await publishTask(projectId, 'a', { digest })
    const headerOf = async (answer: Promise<Response>) =>
      (await answer).headers.get('x-arcana-version')
    // Versions 1 and 3 are the same content.
    expect(await headerOf(ask(`a@sha256:${one.slice(0, 13)}`))).toBe('3')
    expect(await headerOf(ask(`a@sha256:${other}`))).toBe('2')
    expect(await headerOf(client.chat({ model: `${MODEL}:a@sha256:${other.slice(0, 13)}` }))).toBe(
      '2',
    )
    const model = await client.call('GET', `/v1/models/${MODEL}:a@sha256:${other}`)
    expect(await model.json()).toMatchObject({ arcana: { version: 2 } })
    expect(await errorOf(ask(`a@sha256:${'1'.repeat(12)}`))).toMatchObject({
      status: 400,
      code: 'ambiguous_digest',
      message: expect.stringMatching(/Versions \d and \d/) as string,
    })
    expect(await errorOf(ask(`a@sha256:${'2'.repeat(12)}`))).toMatchObject({
      status: 404,
      code: 'model_not_found',
    })
    expect((await ask(`a@sha256:${'1'.repeat(11)}`)).status).toBe(400)
    await client.call('DELETE', '/v1/tasks/a')
    await publishTask(projectId, 'a', { digest: 'c'.repeat(64) })
    expect((await ask(`a@sha256:${one}`)).status).toBe(404)
  })
})

describe('a rollback', () => {
  const live = async () => (await accepted<Task>(client.call('GET', '/v1/tasks/a'))).live_version

  it('goes back in the order in which versions went live, step by step', async ({ expect }) => {
    for (let i = 0; i < 4; i++) await publishTask(projectId, 'a')
    await promote(2, 4)
    expect(await (await rollback(2)).json()).toMatchObject({ live_version: 4 })
    // Not to 2, which was rolled back.
    expect(await (await rollback(4)).json()).toMatchObject({ live_version: 3 })
    await promote(4, 3)
    expect(await (await rollback(4)).json()).toMatchObject({ live_version: 3 })
    expect((await rollback(3)).status).toBe(200)
    expect((await rollback(2)).status).toBe(200)
    expect(await live()).toBe(1)
    expect(await errorOf(rollback(1))).toMatchObject({ status: 409, code: 'nothing_to_roll_back' })
  })

  it('is refused where another version is live, which it names; of many one is done', async ({
    expect,
  }) => {
    for (let i = 0; i < 6; i++) await publishTask(projectId, 'a')
    expect(await errorOf(rollback(3))).toMatchObject({
      status: 409,
      code: 'live_version_conflict',
      message: 'Version 6 of "a" is live, not 3.',
    })
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => rollback(6)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409])
    expect(await live()).toBe(5)
    const { results } = await env.DB.prepare(
      'SELECT cause FROM promotions WHERE project_id = ? ORDER BY sequence',
    )
      .bind(projectId)
      .all()
    expect(results.map(({ cause }) => cause)).toEqual([
      ...Array.from({ length: 6 }, () => 'publish'),
      'rollback',
    ])
  })

  it('passes over what is retired, and never reaches a deleted task', async ({ expect }) => {
    for (let i = 0; i < 3; i++) await publishTask(projectId, 'a')
    await post('a/versions/2/retire', { grace_seconds: 60 })
    expect(await (await rollback(3)).json()).toMatchObject({ live_version: 1 })
    await client.call('DELETE', '/v1/tasks/a')
    const { number } = await publishTask(projectId, 'a')
    expect(await errorOf(rollback(number))).toMatchObject({ code: 'nothing_to_roll_back' })
  })
})

describe('a retired version', () => {
  it('answers with a warning until its time, and then with an error by name', async ({
    expect,
  }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'a')
    expect((await ask('a@1')).headers.get('sunset')).toBeNull()
    const retired = await accepted<TaskVersion>(post('a/versions/1/retire', { grace_seconds: 600 }))
    const date = new Date(1000 * retired.retires_at!).toUTCString()
    for (const answer of [
      await ask('a@1'),
      await ask('a@1*0.5+a@2'),
      await client.respond({}, { 'x-task': 'a@1' }),
      await client.complete({ rotate_from: 0 }, { 'x-task': 'a@1' }),
    ]) {
      expect(answer.status).toBe(200)
      expect(answer.headers.get('sunset')).toBe(date)
      expect(answer.headers.get('x-arcana-warning')).toBe('version-retires')
    }
    expect((await ask('a@2')).headers.get('x-arcana-warning')).toBeNull()
    expect(await errorOf(promote(1, 2))).toMatchObject({ status: 409, code: 'version_retired' })

    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 601_000 })
    try {
      expect(await errorOf(ask('a@1'))).toMatchObject({
        status: 404,
        code: 'version_retired',
        message: expect.stringMatching(/Version 1 of the task "a" was retired on /) as string,
      })
    } finally {
      vi.useRealTimers()
    }
    await post('a/versions/1/retire', { grace_seconds: 0 })
    expect((await ask('a@1')).status).toBe(404)
    await post('a/versions/1/retire', { grace_seconds: null })
    const back = await ask('a@1')
    expect([back.status, back.headers.get('sunset')]).toEqual([200, null])
    expect((await promote(1, 2)).status).toBe(200)
  })
})
