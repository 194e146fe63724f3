import { env } from 'cloudflare:workers'
import { unzipSync, zipSync } from 'fflate'
import { describe, it } from 'vitest'
import { decodeAdapter } from '../../adapters/format/decode.ts'
import { encodeAdapter } from '../../adapters/format/encode.ts'
import type { AdapterFile } from '../../adapters/format/schema.ts'
import type { TaskVersion } from '../../src/protocol/arcana/tasks.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { deflatedZeros, writeZip } from '../fixtures/zip-writer.ts'
import { clientOf, makeProject, MODEL, publishTask } from './harness.ts'
import { GEOMETRY, MODEL_DIGEST } from './runner-double.ts'

useFreshProject()

const NUM_PAIRS = (GEOMETRY.numHeads * GEOMETRY.headDim) / 2

function adapterBytes(changes: Partial<AdapterFile> = {}, angle = 0.25): Uint8Array<ArrayBuffer> {
  const layers = new Map([[1, { angles: new Float32Array(NUM_PAIRS).fill(angle) }]])
  const rotation = { geometry: GEOMETRY, layers }
  return encodeAdapter({
    modelDigest: MODEL_DIGEST,
    scope: 'all',
    dtype: 'F32',
    rotation,
    ...changes,
  })
}

function upload(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  fields: Record<string, string> = {},
): Promise<Response> {
  const form = formOf({ file: new File([bytes], 'adapter.safetensors'), ...fields })
  return client.call('POST', `/v1/tasks/${name}/versions`, form)
}

function formOf(fields: Record<string, string | File>): FormData {
  const form = new FormData()
  for (const [field, value] of Object.entries(fields)) form.append(field, value)
  return form
}

const download = (version: string, query = '') =>
  client.call('GET', `/v1/tasks/${version.replace('@', '/versions/')}/adapter${query}`)

const errorOf = async (response: Response) => ({
  status: response.status,
  ...(await response.json<{ error: { param: string; code: string; message: string } }>()).error,
})

const LABELS = { labels: ['World', 'Sports'], bias: [0.5, -0.5], instructions: 'Say which.' }

describe('an uploaded adapter', () => {
  it('becomes the next version, live, and serves', async ({ expect }) => {
    await publishTask(projectId, 'news')
    const bytes = adapterBytes()
    const response = await upload('news', bytes, { version: JSON.stringify(LABELS) })
    expect(response.status).toBe(200)
    const version = await response.json<TaskVersion>()
    expect(version).toMatchObject({
      id: 'news@2',
      is_live: true,
      model: MODEL,
      model_digest: MODEL_DIGEST,
      scope: 'all',
      layers: [1],
      ...LABELS,
      position: 'before',
      job: expect.stringMatching(/^import-/) as string,
      report: null,
    })
    expect(await (await client.call('GET', '/v1/tasks/news')).json()).toMatchObject({
      live_version: 2,
      versions: [version, { version: 1 }],
    })
    const answer = await client.chat({}, { 'x-task': 'news' })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-arcana-adapter')).toContain(version.adapter_digest)
    expect(runner.adapters.has(version.adapter_digest!)).toBe(true)

    const back = await download('news@2')
    expect(back.headers.get('content-disposition')).toContain('news-2.safetensors')
    expect(await back.bytes()).toEqual(bytes)
  })

  it('creates a task that did not exist', async ({ expect }) => {
    const response = await upload('new-task', adapterBytes({ scope: 'generated' }))
    expect(await response.json()).toMatchObject({ id: 'new-task@1', is_live: true, labels: null })
    expect((await client.chat({}, { 'x-task': 'new-task' })).status).toBe(200)
  })

  it('that is for another model, or malformed, is refused and leaves nothing', async ({
    expect,
  }) => {
    const wide = { ...GEOMETRY, numHeads: GEOMETRY.numHeads + 1 }
    const angles = new Float32Array((wide.numHeads * wide.headDim) / 2).fill(1)
    const rotation = { geometry: wide, layers: new Map([[0, { angles }]]) }
    const nothing = { geometry: GEOMETRY, layers: new Map() }
    const cases: [Promise<Response>, string, string | null][] = [
      [upload('a', adapterBytes({ modelDigest: 'b'.repeat(64) })), 'file', 'adapter_wrong_model'],
      [upload('a', adapterBytes({ rotation })), 'file', 'wrong_geometry'],
      [upload('a', adapterBytes().slice(0, 50)), 'file', 'truncated'],
      [upload('a', adapterBytes({ rotation: nothing })), 'file', null],
      [upload('a', adapterBytes(), { format: 'lora' }), 'format', null],
      [upload('a', adapterBytes(), { version: '{' }), 'version', 'invalid_json'],
      [upload('a', adapterBytes(), { version: '{"bias": [1, 2]}' }), 'version.bias', null],
      [upload('a', adapterBytes(), { version: '{"labels": ["x"]}' }), 'version.labels', null],
      [upload('a', adapterBytes(), { version: '{"colour": 1}' }), 'version.colour', null],
      [upload('a', adapterBytes(), { other: '1' }), 'other', null],
      [upload('base', adapterBytes()), 'name', null],
      [upload('A', adapterBytes()), 'name', null],
    ]
    for (const [response, param, code] of cases) {
      expect(await errorOf(await response)).toMatchObject({ status: 400, param, code })
    }
    const other = await upload('a', adapterBytes(), { version: '{"model": "gpt-2"}' })
    expect(await errorOf(other)).toMatchObject({ status: 404, param: 'version.model' })
    const tooLarge = await upload('a', new Uint8Array(18 * 1024 * 1024))
    expect(await errorOf(tooLarge)).toMatchObject({ status: 413 })
    const forms: [FormData, string | null][] = [
      [formOf({ file: 'not sent as a file' }), 'file'],
      [formOf({ version: '{}' }), 'file'],
      [formOf({ version: 'v'.repeat(600_000) }), null],
      [formOf({ file: new File([adapterBytes()], 'a'), twice: new File([], 'b') }), 'twice'],
    ]
    const twice = formOf({ file: new File([adapterBytes()], 'a') })
    twice.append('file', new File([], 'b'))
    for (const [form, param] of [...forms, [twice, 'file'] as const]) {
      const response = await client.call('POST', '/v1/tasks/a/versions', form)
      expect(await errorOf(response)).toMatchObject({ status: 400, param })
    }
    const noForm = await client.call('POST', '/v1/tasks/a/versions', { file: 'x' })
    expect(noForm.status).toBe(400)
    expect((await client.call('GET', '/v1/tasks/a')).status).toBe(404)
    expect((await env.BLOBS.list({ prefix: `${projectId}/` })).objects).toHaveLength(0)
  })
})

describe('an adapter as PEFT', () => {
  it('is exported as a zipped folder, and imported as the same rotation', async ({ expect }) => {
    await upload('a', adapterBytes(), { version: JSON.stringify(LABELS) })
    const response = await download('a@1', '?format=peft')
    expect(response.headers.get('content-type')).toBe('application/zip')
    const zip = await response.bytes()
    const files = unzipSync(zip)
    expect(Object.keys(files).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
    expect(JSON.parse(new TextDecoder().decode(files['adapter_config.json']))).toMatchObject({
      peft_type: 'OFT',
      base_model_name_or_path: MODEL,
      layers_to_transform: [1],
    })

    const fields = { format: 'peft', version: JSON.stringify({ model: MODEL }) }
    const version = await (await upload('b', new Uint8Array(zip), fields)).json<TaskVersion>()
    expect(version).toMatchObject({ id: 'b@1', scope: 'all', layers: [1], labels: null })
    const decoded = decodeAdapter(await (await download('b@1')).bytes(), GEOMETRY)
    if (!decoded.ok) throw new Error(decoded.error.message)
    for (const angle of decoded.value.rotation.layers.get(1)!.angles) {
      expect(angle).toBeCloseTo(0.25, 6)
    }
    // As PEFT saves it: in a folder, with a model card beside.
    const folder = Object.fromEntries(Object.entries(files).map(([k, v]) => [`my-adapter/${k}`, v]))
    const withCard = zipSync({ ...folder, 'my-adapter/README.md': new Uint8Array(3) })
    expect((await upload('b', new Uint8Array(withCard), fields)).status).toBe(200)
  })

  it('that claims 1,000 bytes and inflates to 1.5 GB is refused while others are answered', async ({
    expect,
  }) => {
    const bomb = writeZip([
      {
        name: 'adapter_model.safetensors',
        bytes: new Uint8Array(),
        packed: deflatedZeros(1.5e9),
        claimedBytes: 1000,
      },
      { name: 'adapter_config.json', bytes: new TextEncoder().encode('{}') },
    ])
    const fields = { format: 'peft', version: JSON.stringify({ model: MODEL }) }
    const startedAtMs = performance.now()
    const refused = upload('a', bomb, fields)
    const others = await Promise.all(
      Array.from({ length: 8 }, () => client.call('GET', '/v1/models')),
    )
    for (const other of others) expect(other.status).toBe(200)
    expect(await errorOf(await refused)).toMatchObject({
      status: 400,
      code: 'invalid_zip',
      message: expect.stringMatching(/larger than the 1000 bytes it claims/) as string,
    })
    // Inflating all of it takes some 20 s; refusing it took 0.1 s, the upload included.
    expect(performance.now() - startedAtMs).toBeLessThan(5_000)
  })

  it('of scope generated, or under a digest-less upload without a model, is refused by name', async ({
    expect,
  }) => {
    await publishTask(projectId, 'a')
    expect(await errorOf(await download('a@1', '?format=peft'))).toMatchObject({
      status: 400,
      param: 'format',
      code: 'not_expressible',
      message: expect.stringMatching(/scope is "generated"/) as string,
    })
    expect(await errorOf(await download('a@1', '?format=gguf'))).toMatchObject({
      status: 400,
      param: 'format',
    })
    const anything = new Uint8Array(100)
    expect(await errorOf(await upload('a', anything, { format: 'peft' }))).toMatchObject({
      status: 400,
      param: 'version.model',
    })
    const fields = { format: 'peft', version: JSON.stringify({ model: MODEL }) }
    const card = zipSync({ 'README.md': new Uint8Array(3) })
    const huge = zipSync({ 'adapter_config.json': new Uint8Array(100_000) })
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`${i}`, card]))
    const twice = zipSync({ 'a/adapter_config.json': card, 'b/adapter_config.json': card })
    const archives = [anything, card, huge, zipSync(many), twice]
    for (const bytes of archives.map((each) => new Uint8Array(each))) {
      expect(await errorOf(await upload('a', bytes, fields))).toMatchObject({
        status: 400,
        param: 'file',
        code: 'invalid_zip',
      })
    }
  })
})

describe('a download', () => {
  it('works only for existing versions of the caller’s project', async ({ expect }) => {
    await publishTask(projectId, 'a')
    expect((await download('a@1')).status).toBe(200)
    expect(await errorOf(await download('a@2'))).toMatchObject({
      status: 404,
      code: 'version_not_found',
    })
    expect((await download('a@01')).status).toBe(404)
    expect((await download('b@1')).status).toBe(404)
    const stranger = clientOf((await makeProject()).key)
    expect((await stranger.call('GET', '/v1/tasks/a/versions/1/adapter')).status).toBe(404)
    await client.call('DELETE', '/v1/tasks/a')
    await publishTask(projectId, 'a')
    expect((await download('a@1')).status).toBe(404)
    expect((await download('a@2')).status).toBe(200)
  })
})
