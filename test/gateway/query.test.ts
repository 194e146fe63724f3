import { describe, it, vi } from 'vitest'
import { client, useFreshProject } from './fresh-project.ts'
import { MODEL } from './harness.ts'
import { createJob } from './label-jobs.ts'

useFreshProject()

describe('a query parameter', () => {
  const cases = [
    ['GET', '/v1/models?order=asc', 'order'],
    ['GET', `/v1/models/${MODEL}?x=1`, 'x'],
    ['GET', '/v1/files?before=file-1', 'before'],
    ['GET', '/v1/files/file-none?limit=1', 'limit'],
    ['GET', '/v1/files/file-none/content?range=1', 'range'],
    ['GET', '/v1/fine_tuning/jobs?status=running', 'status'],
    ['GET', '/v1/fine_tuning/jobs?metadata=a', 'metadata'],
    ['GET', '/v1/fine_tuning/jobs?limit=1&limit=2', 'limit'],
    ['GET', '/v1/fine_tuning/jobs/ftjob-none/events?order=asc', 'order'],
    ['GET', '/v1/fine_tuning/jobs/ftjob-none/checkpoints?order=asc', 'order'],
    ['GET', '/v1/tasks?live=true', 'live'],
    ['GET', '/v1/tasks/news/versions/1/adapter?fromat=peft', 'fromat'],
    ['GET', '/tokenizer_info?x=1', 'x'],
    ['POST', '/v1/chat/completions?api-version=2024-10-21', 'api-version'],
    ['DELETE', '/v1/files/file-none?force=1', 'force'],
  ] as const
  it.for(cases)(
    'that %s %s does not read is refused by name',
    async ([method, path, param], { expect }) => {
      const response = await client.call(method, path, method === 'POST' ? {} : undefined)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    },
  )

  it('does not hide that a URL is unknown, and is left alone where nothing is served', async ({
    expect,
  }) => {
    const unknown = await client.call('GET', '/v1/nothing?x=1')
    expect(await unknown.json()).toMatchObject({ error: { code: 'unknown_url' } })
    const unserved = await client.call('GET', '/v1/embeddings?limit=1')
    expect(await unserved.json()).toMatchObject({ error: { code: 'unsupported_endpoint' } })
    expect((await client.call('GET', '/healthz?t=1')).status).toBe(200)
  })
})

describe('a list of jobs', () => {
  it('has only the jobs with the requested metadata', async ({ expect }) => {
    const make = async (suffix: string, metadata: object | null) =>
      (await createJob({ suffix, metadata })).id
    const zero = await make('zero', null)
    const az = await make('az', { a: 'z', 'k"y': 'ü[1]' })
    const abz = await make('abz', { a: 'z', b: 'z' })
    const listed = async (query: Record<string, string>) => {
      const response = await client.call(
        'GET',
        `/v1/fine_tuning/jobs?${new URLSearchParams(query).toString()}`,
      )
      const { data, has_more: hasMore } = await response.json<{
        data: { id: string }[]
        has_more: boolean
      }>()
      return { ids: data.map(({ id }) => id), hasMore }
    }
    await vi.waitFor(async () => {
      expect((await listed({})).ids).toEqual([abz, az, zero])
    })
    const some = (...ids: string[]) => ({ ids, hasMore: false })
    expect(await listed({ 'metadata[a]': 'z' })).toEqual(some(abz, az))
    expect(await listed({ 'metadata[a]': 'z', 'metadata[b]': 'z' })).toEqual(some(abz))
    expect(await listed({ 'metadata[k"y]': 'ü[1]' })).toEqual(some(az))
    expect(await listed({ 'metadata[a]': 'y' })).toEqual(some())
    expect(await listed({ metadata: 'null' })).toEqual(some(zero))
    expect(await listed({ 'metadata[a]': 'z', limit: '1' })).toEqual({ ids: [abz], hasMore: true })
    expect(await listed({ 'metadata[a]': 'z', after: abz })).toEqual(some(az))
  })
})
