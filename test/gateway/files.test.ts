import { env, exports } from 'cloudflare:workers'
import { beforeEach, describe, it } from 'vitest'
import { clientOf, makeProject, type Client } from './harness.ts'

let client: Client
let key: string
let projectId: string

beforeEach(async () => {
  ;({ key, projectId } = await makeProject())
  client = clientOf(key)
})

const LINES = [
  '{"input": "The match ended 2:1", "label": "Sports"}',
  '{"messages": [{"role": "system", "content": "Classify."}, {"role": "user", "content": "Wahl in Österreich"}, {"role": "assistant", "content": "World"}]}',
]

function upload(content: string, fields: Record<string, string> = { purpose: 'fine-tune' }) {
  const form = new FormData()
  // OpenAI's client sends the file first.
  form.append('file', new File([content], 'train.jsonl'))
  for (const [name, value] of Object.entries(fields)) form.append(name, value)
  return client.call('POST', '/v1/files', form)
}

const numStored = async () => (await env.BLOBS.list({ prefix: `${projectId}/` })).objects.length

describe('a training file', () => {
  it('is stored, listed, read back and deleted', async ({ expect }) => {
    const content = `\uFEFF${LINES.join('\r\n')}\n\n`
    const response = await upload(content)
    expect(response.status).toBe(200)
    const file = await response.json<{ id: string }>()
    expect(file).toMatchObject({
      object: 'file',
      bytes: new TextEncoder().encode(content).length,
      filename: 'train.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
      arcana: { num_examples: 2 },
    })
    const read = await client.call('GET', `/v1/files/${file.id}/content`)
    expect(
      new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await read.bytes()),
    ).toBe(content)
    expect(await (await client.call('GET', `/v1/files/${file.id}`)).json()).toEqual(file)
    expect(await (await client.call('GET', '/v1/files?purpose=fine-tune')).json()).toMatchObject({
      object: 'list',
      data: [file],
      has_more: false,
    })
    const gone = await client.call('DELETE', `/v1/files/${file.id}`)
    expect(await gone.json()).toEqual({ id: file.id, object: 'file', deleted: true })
    expect((await client.call('GET', `/v1/files/${file.id}`)).status).toBe(404)
    expect((await client.call('DELETE', `/v1/files/${file.id}`)).status).toBe(404)
    expect(await numStored()).toBe(0)
  })

  it('with bad lines is refused, with the number of each', async ({ expect }) => {
    const content = [
      LINES[0],
      'not json',
      '[]',
      '{"input": "x"}',
      '{"input": "x", "label": 12345678901234567890}',
      '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
      '{"messages": [{"role": "assistant", "content": "x"}, {"role": "assistant", "content": "y"}]}',
      '{"input": "x", "label": "y", "weight": 0}',
      LINES[1],
      '{"prompt": "x", "completion": "y"}',
      '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}',
      `{"input": "${'x'.repeat(300_000)}", "label": "y"}`,
      '{"input": "x", "target": ""}',
      '{"input": "x", "label": "y", "target": "y"}',
      `{"input": "x", "target": "${'y'.repeat(8193)}"}`,
    ].join('\n')
    const response = await upload(content)
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { message: string; param: string } }>()
    expect(error.param).toBe('file')
    expect(error.message).toContain('13 bad lines')
    for (const bad of [2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15]) {
      expect(error.message).toContain(`line ${bad} `)
    }
    expect(error.message).not.toContain('line 1 ')
    expect(error.message).not.toContain('line 9 ')
    expect(await numStored()).toBe(0)
    expect(await (await client.call('GET', '/v1/files')).json()).toMatchObject({ data: [] })
  })

  it('that mixes labels and targets is refused, chats beside either are not', async ({
    expect,
  }) => {
    const chat =
      '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'
    const [label, target] = ['{"input": "x", "label": "y"}', '{"input": "x", "target": "y"}']
    const response = await upload([chat, target, label, target].join('\n'))
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { message: 'The file has 1 bad line: line 3 has no target, unlike line 2.' },
    })
    expect((await upload([chat, target].join('\n'))).status).toBe(200)
    expect((await upload([label, chat].join('\n'))).status).toBe(200)
  })

  it('with very many bad lines names the first and counts the rest', async ({ expect }) => {
    const response = await upload('x\n'.repeat(1000))
    const { error } = await response.json<{ error: { message: string } }>()
    expect(error.message).toContain('1000 bad lines')
    expect(error.message).toContain('and 980 more')
  })

  it('with bytes that are not UTF-8 is refused', async ({ expect }) => {
    const form = new FormData()
    form.append('file', new File([`${LINES[0]!}\n`, Uint8Array.of(0x7b, 0xff, 0x7d)], 'x.jsonl'))
    form.append('purpose', 'fine-tune')
    const response = await client.call('POST', '/v1/files', form)
    const { error } = await response.json<{ error: { message: string } }>()
    expect(error.message).toContain('line 2 is not UTF-8')
  })

  it('larger than one part of a blob is stored whole', async ({ expect }) => {
    const line = `{"input": "${'y'.repeat(100_000)}", "label": "a"}\n`
    const content = line.repeat(120)
    const response = await upload(content)
    expect(response.status).toBe(200)
    const file = await response.json<{ id: string; bytes: number }>()
    expect(file.bytes).toBe(content.length)
    const read = await client.call('GET', `/v1/files/${file.id}/content`)
    expect(await read.text()).toBe(content)
  })

  it('larger than one part with its last line bad leaves nothing behind', async ({ expect }) => {
    const line = `{"input": "${'y'.repeat(100_000)}", "label": "a"}\n`
    const response = await upload(`${line.repeat(120)}oops`)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { message: 'The file has 1 bad line: line 121 is not valid JSON.' },
    })
    expect(await numStored()).toBe(0)
  })

  it('past the limit is refused with 413', async ({ expect }) => {
    const line = `{"input": "${'y'.repeat(200_000)}", "label": "a"}\n`
    const response = await upload(line.repeat(340))
    expect(response.status).toBe(413)
    expect(await numStored()).toBe(0)
  })

  it('that is empty, or whose fields are wrong, is refused', async ({ expect }) => {
    for (const [response, param] of [
      [await upload(''), 'file'],
      [await upload('\n \n'), 'file'],
      [await upload(LINES[0]!, {}), 'purpose'],
      [await upload(LINES[0]!, { purpose: 'assistants' }), 'purpose'],
      [await upload(LINES[0]!, { purpose: 'fine-tune', color: 'red' }), 'color'],
      [await client.call('POST', '/v1/files', { purpose: 'fine-tune' }), null],
    ] as const) {
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
    expect(await numStored()).toBe(0)
  })

  it('may come in chunks of any size, and must come whole', async ({ expect }) => {
    const send = (text: string, step: number) => {
      const bytes = new TextEncoder().encode(text)
      return exports.default.fetch('http://gateway/v1/files', {
        method: 'POST',
        headers: {
          authorization: `Bearer ${key}`,
          'content-type': 'multipart/form-data; boundary="b0undary"',
        },
        body: new ReadableStream({
          start(controller) {
            for (let at = 0; at < bytes.length; at += step) {
              controller.enqueue(bytes.slice(at, at + step))
            }
            controller.close()
          },
        }),
      })
    }
    const whole =
      '--b0undary\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n' +
      '--b0undary\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n' +
      `content-type: application/octet-stream\r\n\r\n${LINES.join('\n')}\r\n--b0undary--\r\n`
    for (const step of [1, 2, 3, 7, 64, 100_000]) {
      const response = await send(whole, step)
      expect(response.status, `chunks of ${step}`).toBe(200)
    }
    expect(await numStored()).toBe(6)
    for (const cut of [whole.length - 40, 150, 20, 0]) {
      const response = await send(whole.slice(0, cut), 1000)
      expect(response.status, `cut at ${cut}`).toBe(400)
    }
    expect(await numStored()).toBe(6)
  })

  it('belongs to its project', async ({ expect }) => {
    const { id } = await (await upload(LINES[0]!)).json<{ id: string }>()
    const stranger = clientOf((await makeProject()).key)
    for (const [method, path] of [
      ['GET', `/v1/files/${id}`],
      ['GET', `/v1/files/${id}/content`],
      ['DELETE', `/v1/files/${id}`],
    ] as const) {
      expect((await stranger.call(method, path)).status).toBe(404)
    }
  })

  it('is listed in pages, newest first', async ({ expect }) => {
    const ids: string[] = []
    for (let i = 0; i < 5; i++)
      ids.push((await (await upload(LINES[0]!)).json<{ id: string }>()).id)
    const seen: string[] = []
    let after = ''
    for (let pages = 0; pages < 5; pages++) {
      const page = await (
        await client.call('GET', `/v1/files?limit=2${after}`)
      ).json<{ data: { id: string }[]; has_more: boolean; last_id: string }>()
      seen.push(...page.data.map(({ id }) => id))
      if (!page.has_more) break
      after = `&after=${page.last_id}`
    }
    expect(seen).toHaveLength(5)
    expect(new Set(seen)).toEqual(new Set(ids))
    expect((await client.call('GET', '/v1/files?after=file-none')).status).toBe(400)
    expect((await client.call('GET', '/v1/files?limit=0')).status).toBe(400)
  })
})
