import { gzipSync, zlibSync } from 'fflate'
import { describe, it } from 'vitest'
import { gunzip } from '../../../src/http/gunzip.ts'
import { ApiError } from '../../../src/protocol/openai/error.ts'
import { client, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'

useFreshProject()

const utf8 = (text: string) => new TextEncoder().encode(text)
const CHAT = JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'Grüße' }] })
const MIB = 1024 * 1024

const post = (
  path: string,
  body: Uint8Array,
  encoding: string,
  type = 'application/json',
): Promise<Response> =>
  client.call('POST', path, body, { 'content-encoding': encoding, 'content-type': type })
const chat = (body: Uint8Array, encoding = 'gzip') => post('/v1/chat/completions', body, encoding)

/** Compresses mebibytes of white space; the platform's own gzip is fast. */
const compress = (numMib: number): Promise<Uint8Array> => {
  let left = numMib
  const blanks = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left-- > 0) controller.enqueue(new Uint8Array(MIB).fill(32))
      else controller.close()
    },
  })
  return new Response(blanks.pipeThrough(new CompressionStream('gzip'))).bytes()
}

const FORM = 'multipart/form-data; boundary=b'
const form = (lines: string) =>
  utf8(
    '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n' +
      '--b\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' +
      `${lines}\r\n--b--\r\n`,
  )

describe('a gzip body', () => {
  it('is read as its inflated content', async ({ expect }) => {
    for (const encoding of ['gzip', 'GZIP', 'x-gzip']) {
      expect((await chat(gzipSync(utf8(CHAT), { filename: 'chat.json' }), encoding)).status).toBe(
        200,
      )
      expect(runner.generateRequests.at(-1)?.messages).toEqual([{ role: 'user', content: 'Grüße' }])
    }
    expect((await chat(utf8(CHAT), 'identity')).status).toBe(200)
  })

  it('may be an upload, of many slices', async ({ expect }) => {
    const line = (i: number) => `{"input": "${i} ${crypto.randomUUID()}", "label": "a"}`
    const lines = Array.from({ length: 3000 }, (_, i) => line(i)).join('\n')
    const response = await post('/v1/files', gzipSync(form(lines)), 'gzip', FORM)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      bytes: lines.length,
      arcana: { num_examples: 3000 },
    })
  })

  it('that inflates past the limit is refused while it is inflated', async ({ expect }) => {
    const bomb = await compress(200)
    expect(bomb.length).toBeLessThan(MIB)
    const startedAt = performance.now()
    const response = await chat(bomb)
    expect(response.status).toBe(413)
    expect(await response.json()).toMatchObject({ error: { code: 'request_too_large' } })
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  })

  it('is inflated no further than it is read, and not past its limit', async ({ expect }) => {
    const packed = await compress(64)
    let numRead = 0
    const source = () =>
      new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            const next = packed.subarray(numRead, numRead + 1024)
            numRead += next.length
            if (next.length === 0) controller.close()
            else controller.enqueue(next)
          },
        },
        { highWaterMark: 0 },
      )
    const tooLarge = () => new ApiError(413, 'too large')
    const reader = gunzip(source().getReader(), 100 * MIB, tooLarge).getReader()
    const first = await reader.read()
    expect(first.value?.length).toBeLessThan(2 * MIB)
    expect(numRead).toBeLessThan(3 * 1024)
    await reader.cancel()
    numRead = 0
    let size = 0
    const read = async () => {
      for await (const part of gunzip(source().getReader(), 8 * MIB, tooLarge)) size += part.length
    }
    await expect(read()).rejects.toThrow('too large')
    expect(size).toBeLessThanOrEqual(8 * MIB)
  })

  it('that is malformed is the caller’s fault', async ({ expect }) => {
    const sound = gzipSync(utf8(CHAT))
    const changed = (at: number) => sound.map((byte, i) => (i === at ? byte ^ 1 : byte))
    const twice = new Uint8Array([...sound, ...sound])
    const endless = new Uint8Array(MIB).fill(65)
    endless.set([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255])
    const junk = new Uint8Array(MIB / 2)
    junk.set(sound)
    for (const body of [
      utf8(CHAT),
      sound.subarray(0, -1),
      sound.subarray(0, 30),
      sound.subarray(0, 5),
      changed(sound.length - 6),
      changed(sound.length - 2),
      twice,
      endless,
      junk,
    ]) {
      const response = await chat(body)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_gzip' } })
    }
    expect(runner.generateRequests).toHaveLength(0)
  })
})

it('a body of another encoding is refused by its name', async ({ expect }) => {
  for (const encoding of ['br', 'deflate', 'zstd', 'gzip, gzip']) {
    const answers = [
      await chat(zlibSync(utf8(CHAT)), encoding),
      await post('/v1/files', zlibSync(form('{}')), encoding, FORM),
      await post('/v1/tasks/news/versions', zlibSync(form('{}')), encoding, FORM),
    ]
    for (const response of answers) {
      expect(response.status).toBe(415)
      const { error } = await response.json<{ error: { message: string; param: string } }>()
      expect(error.message).toContain(`"${encoding}"`)
      expect(error.param).toBe('content-encoding')
    }
  }
})
