import { describe, it } from 'vitest'
import { parseDisposition } from '../../../src/files/disposition.ts'
import { client, useFreshProject } from '../fresh-project.ts'

useFreshProject()

const LINE = '{"input": "a", "label": "b"}'
const NAMES = [
  'я.jsonl',
  '测试.jsonl',
  'Gro\u0308ße.jsonl',
  'Größe.jsonl',
  '🧪 1.jsonl',
  '👩‍🔬.jsonl',
]

/** A form as a client writes it; `parameters` follows `name="file"`. */
async function upload(parameters: string) {
  const body =
    '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n' +
    `--b\r\ncontent-disposition: form-data; name="file"${parameters}\r\n` +
    `content-type: application/octet-stream\r\n\r\n${LINE}\r\n--b--\r\n`
  const type = { 'content-type': 'multipart/form-data; boundary=b' }
  return client.call('POST', '/v1/files', body, type)
}

describe('an upload’s file name', () => {
  it('is kept as it was sent', async ({ expect }) => {
    for (const name of NAMES) {
      const form = new FormData()
      form.append('purpose', 'fine-tune')
      form.append('file', new File([LINE], name))
      const response = await client.call('POST', '/v1/files', form)
      expect(response.status, name).toBe(200)
      const { id, filename } = await response.json<{ id: string; filename: string }>()
      expect(filename).toBe(name)
      expect(await (await client.call('GET', `/v1/files/${id}`)).json()).toMatchObject({
        filename: name,
      })
    }
  })

  it('may be written in any of the ways that clients have', async ({ expect }) => {
    for (const [parameters, filename] of [
      ['; filename="a \\"b\\" \\\\.jsonl"', 'a "b" \\.jsonl'],
      ['; filename=я.jsonl', 'я.jsonl'],
      [`; filename*=UTF-8''%D1%8F.jsonl`, 'я.jsonl'],
      [`; filename="_.jsonl"; filename*=utf-8''%D1%8F.jsonl`, 'я.jsonl'],
      ['; filename="a;b=c.jsonl"', 'a;b=c.jsonl'],
      ['; filename=""', 'file.jsonl'],
      ['', 'file.jsonl'],
      [`; filename="${'🧪'.repeat(128)}"`, '🧪'.repeat(127)],
    ] as const) {
      const response = await upload(parameters)
      expect(response.status, parameters).toBe(200)
      expect(await response.json()).toMatchObject({ filename })
    }
  })

  it('that cannot be parsed is refused with the reason', async ({ expect }) => {
    for (const parameters of ['; filename="я', '; filename="я" x', `; filename*=utf-8''%D1%`]) {
      const response = await upload(parameters)
      expect(response.status, parameters).toBe(400)
      const { error } = await response.json<{ error: { message: string; param: string | null } }>()
      expect(error.message).not.toMatch(/: $/)
      expect(error.param).not.toBe('')
    }
  })
})

describe('a part’s disposition', () => {
  it('is a form’s, with a name', ({ expect }) => {
    expect(parseDisposition('form-data; name=a')).toEqual({ name: 'a', filename: null })
    expect(parseDisposition('Form-Data ; NAME="a b" ; filename="x"')).toEqual({
      name: 'a b',
      filename: 'x',
    })
    for (const header of ['', 'form-data', 'attachment; name="a"', 'form-data; name="a" x']) {
      expect(parseDisposition(header)).toBeNull()
    }
  })
})
