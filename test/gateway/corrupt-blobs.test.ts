import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import type { Task, TaskWithVersions } from '../../src/protocol/arcana/tasks.ts'
import type { Model } from '../../src/protocol/openai/models.ts'
import { judgeFault } from '../../src/jobs/faults.ts'
import { adapterKey, readBlob } from '../../src/storage/blobs.ts'
import { sha256Hex } from '../../src/storage/digest.ts'
import { accepted, client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask } from './harness.ts'

useFreshProject()

/** Flips one bit of the blob under a key. @returns the original bytes */
async function flipBit(key: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(await (await env.BLOBS.get(key))!.arrayBuffer())
  const flipped = bytes.slice()
  flipped[flipped.length - 1]! ^= 1
  await env.BLOBS.put(key, flipped)
  return bytes
}

const CORRUPT = {
  error: { type: 'server_error', code: 'adapter_corrupt', param: null },
}
const versionsOf = async (task: string) =>
  (await accepted<TaskWithVersions>(client.call('GET', `/v1/tasks/${task}`))).versions
const modelOf = (task: string) => accepted<Model>(client.call('GET', `/v1/models/${MODEL}:${task}`))

describe('a stored adapter with one bit flipped', () => {
  it('is neither downloaded nor served, is marked, and is repaired by the same bytes', async ({
    expect,
  }) => {
    const logged = vi.spyOn(console, 'error')
    const { digest } = await publishTask(projectId, 'news')
    const sound = await publishTask(projectId, 'other', { angle: 0.25 })
    const key = adapterKey(projectId, digest)
    const bytes = await flipBit(key)
    expect(await modelOf('news')).toMatchObject({ arcana: { is_corrupt: false } })

    const asked = [
      await client.call('GET', '/v1/tasks/news/versions/1/adapter'),
      await client.call('GET', '/v1/tasks/news/versions/1/adapter?format=peft'),
      await client.chat({}, { 'x-task': 'news' }),
      await client.chat({ stream: true }, { 'x-task': 'news' }),
      await client.call('POST', '/v1/compare', {
        model: MODEL,
        messages: [{ role: 'user', content: 'a' }],
        arms: ['base', 'news'],
      }),
    ]
    for (const response of asked) {
      expect(response.status).toBe(500)
      expect(response.headers.get('x-should-retry')).toBe('false')
      expect(await response.json()).toMatchObject(CORRUPT)
    }
    expect(runner.callsTo('PUT /v1/adapters')).toBe(0)
    const lines = logged.mock.calls.map(([line]) => String(line))
    expect(lines.filter((line) => line.includes(key))).toHaveLength(1)

    expect(await versionsOf('news')).toMatchObject([{ corrupt_at: expect.any(Number) as number }])
    expect(await versionsOf('other')).toMatchObject([{ corrupt_at: null }])
    expect(await modelOf('news')).toMatchObject({ arcana: { is_corrupt: true } })
    const { data } = await accepted<{ data: Model[] }>(client.call('GET', '/v1/models'))
    expect(data.map((model) => model.arcana?.is_corrupt)).toEqual([undefined, true, false])
    expect(sound.digest).not.toBe(digest)

    const form = new FormData()
    form.append('file', new File([bytes], 'adapter.safetensors'))
    await accepted<Task>(client.call('POST', '/v1/tasks/mended/versions', form))
    expect(await versionsOf('news')).toMatchObject([{ corrupt_at: null }])
    expect(await modelOf('news')).toMatchObject({ arcana: { is_corrupt: false } })
    const back = await client.call('GET', '/v1/tasks/news/versions/1/adapter')
    expect(await back.bytes()).toEqual(bytes)
    expect((await client.chat({}, { 'x-task': 'news' })).status).toBe(200)
  })

  it('is not read if the runner has the adapter', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'warm')
    expect((await client.chat({}, { 'x-task': 'warm' })).status).toBe(200)
    await flipBit(adapterKey(projectId, digest))
    const get = vi.spyOn(crypto.subtle, 'digest')
    expect((await client.chat({}, { 'x-task': 'warm' })).status).toBe(200)
    expect(get.mock.calls.every(([, data]) => data.byteLength < 1000)).toBe(true)
  })

  it('in examples fails the job that needs them, with the reason', async ({ expect }) => {
    const key = `${projectId}/jobs/a/training.json`
    const bytes = new TextEncoder().encode('{"examples":[]}')
    const digest = await sha256Hex(bytes)
    await env.BLOBS.put(key, bytes)
    expect(await readBlob(env.BLOBS, key, digest)).toEqual(bytes)
    await flipBit(key)
    const fault: unknown = await readBlob(env.BLOBS, key, digest).catch((error: unknown) => error)
    expect(judgeFault(fault)).toMatchObject({
      kind: 'fail',
      error: { code: 'dataset_corrupt', param: 'training_file' },
    })
    expect(await readBlob(env.BLOBS, `${key}-none`, digest)).toBeNull()
  })
})
