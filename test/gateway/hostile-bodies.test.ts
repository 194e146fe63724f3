import { env } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import { receiveUpload } from '../../src/files/upload.ts'
import { chatRequestSchema } from '../../src/protocol/openai/chat-completions.ts'
import { completionRequestSchema } from '../../src/protocol/openai/completions.ts'
import { receiveAdapter } from '../../src/tasks/adapter-upload.ts'
import { accepted, client, useFreshProject } from './fresh-project.ts'
import { MODEL } from './harness.ts'

useFreshProject()

const MIB = 1024 * 1024
const repeat = (text: string, maxBytes: number, numAround = 100) =>
  Array.from({ length: Math.floor((maxBytes - numAround) / (text.length + 1)) }, () => text).join()

/** Bodies just under the limit, with content that costs most to check. */
const CHATS: Readonly<Record<string, string>> = {
  'empty messages': `"messages":[${repeat('{"role":"user","content":""}', MIB)}]`,
  'messages that are none': `"messages":[${repeat('{}', MIB)}]`,
  'parts that are none': `"messages":[{"role":"user","content":[${repeat('{}', MIB)}]}]`,
  'messages of such parts': `"messages":[${repeat(
    `{"role":"user","content":[${repeat('{}', 6000, 0)}]}`,
    MIB,
  )}]`,
  biases: `"messages":[{"role":"user","content":"a"}],"logit_bias":{${Array.from(
    { length: 90_000 },
    (_, i) => `"${i}":1`,
  ).join()}}`,
  'stop strings': `"messages":[{"role":"user","content":"a"}],"stop":[${repeat('""', MIB)}]`,
  'a wide schema': `"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema",
    "json_schema":{"name":"a","schema":{"enum":[${repeat('{}', MIB, 400)}]}}}`,
}

/** The most faults in an error; each costs as much as a hundred valid values. */
const MAX_ISSUES = 400

describe('a body within its limits', () => {
  for (const [what, fields] of Object.entries(CHATS)) {
    it(`of ${what} is refused at its first faults`, async ({ expect }) => {
      const body = `{"model":"${MODEL}",${fields}}`
      const parsed = chatRequestSchema.safeParse(JSON.parse(body))
      expect(parsed.error?.issues.length).toBeLessThan(MAX_ISSUES)
      const response = await client.call('POST', '/v1/chat/completions', body)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error' } })
    })
  }

  it('of a completion’s prompts is refused at its first faults', ({ expect }) => {
    for (const item of ['{}', '""', '[]', '-1', '[1.5]']) {
      const body = JSON.parse(`{"model":"m","prompt":[${repeat(item, MIB)}]}`) as unknown
      const { error } = completionRequestSchema.safeParse(body)
      const [issue] = error!.issues
      if (issue?.code !== 'invalid_union') throw new Error('the prompt is no union')
      for (const issues of issue.errors) expect(issues.length).toBeLessThan(MAX_ISSUES)
    }
    const ids = JSON.parse(`[${repeat('1', MIB)}]`) as number[]
    expect(completionRequestSchema.parse({ model: 'm', prompt: ids }).prompts).toEqual([ids])
  })
})

describe('a training file', () => {
  const upload = (text: string, pause?: () => Promise<void>) => {
    const form = new FormData()
    form.append('file', new File([text], 'a.jsonl'))
    form.append('purpose', 'fine-tune')
    const request = new Request('http://gateway/', { method: 'POST', body: form })
    return receiveUpload(request, env.BLOBS, `hostile/${crypto.randomUUID()}`, pause)
  }

  it('names one fault of a line that is full of them', async ({ expect }) => {
    const lines = [
      `{"messages":[${repeat('{}', 256 * 1024)}]}`,
      `{"messages":[{"role":"user","content":[${repeat('{}', 256 * 1024)}]},{"role":"assistant","content":"a"}]}`,
    ]
    await expect(upload(lines.join('\n'))).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(
        /2 bad lines: line 1 messages: must hold at most 2048 messages; line 2 messages\[0\]\.content: must be/,
      ) as string,
    })
  })

  it('lets others run while it is read, by its bytes and by its lines', async ({ expect }) => {
    let numPauses = 0
    const pause = () => {
      numPauses += 1
      return Promise.resolve()
    }
    const line = `{"input":"${'a'.repeat(10_000)}","label":"b"}\n`
    await upload(line.repeat(400), pause)
    expect(numPauses).toBeGreaterThan(12)
    numPauses = 0
    await expect(upload('\n'.repeat(90_000), pause)).rejects.toThrow(/no examples/)
    expect(numPauses).toBeGreaterThan(12)
  })

  it('is accepted as before', async ({ expect }) => {
    const form = new FormData()
    form.append('file', new File(['{"input":"a","label":"b"}'], 'a.jsonl'))
    form.append('purpose', 'fine-tune')
    const file = await accepted<object>(client.call('POST', '/v1/files', form))
    expect(file).toMatchObject({ arcana: { num_examples: 1 } })
  })
})

describe('an adapter’s form', () => {
  const MIB_OF_FILE = 8
  const receive = (form: FormData, pause?: () => Promise<void>) =>
    receiveAdapter(new Request('http://gateway/', { method: 'POST', body: form }), pause)

  it('lets others be answered while it is read', async ({ expect }) => {
    const form = new FormData()
    form.append('file', new File([new Uint8Array(MIB_OF_FILE * MIB).fill(7)], 'a'))
    let numPauses = 0
    const { bytes } = await receive(form, () => {
      numPauses += 1
      return Promise.resolve()
    })
    expect(bytes.length).toBe(MIB_OF_FILE * MIB)
    expect(bytes.every((byte) => byte === 7)).toBe(true)
    expect(numPauses).toBeGreaterThanOrEqual(2 * MIB_OF_FILE)
  })

  it('of very many parts is refused after the first few', async ({ expect }) => {
    const form = new FormData()
    for (let i = 0; i < 20_000; i++) form.append(`a${i}`, '')
    let numPauses = 0
    const refused = receive(form, () => {
      numPauses += 1
      return Promise.resolve()
    })
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'a0' })
    expect(numPauses).toBe(0)
  })
})
