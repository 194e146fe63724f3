import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import type { Batch } from '../../src/protocol/openai/batches.ts'
import { accepted, client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { clientOf, makeProject, MODEL, publishTask } from './harness.ts'
import { refuse } from './runner-double.ts'

useFreshProject()

const ENDED = ['completed', 'failed', 'expired', 'cancelled']
const CHAT = '/v1/chat/completions'

const chatLine = (id: string, body: object = {}) => ({
  custom_id: id,
  method: 'POST',
  url: CHAT,
  body: { model: MODEL, messages: [{ role: 'user', content: 'Hi' }], ...body },
})

function uploadText(text: string): Promise<Response> {
  const form = new FormData()
  form.append('file', new File([text], 'requests.jsonl'))
  form.append('purpose', 'batch')
  return client.call('POST', '/v1/files', form)
}

const toText = (lines: readonly object[]) => lines.map((line) => JSON.stringify(line)).join('\n')

async function createBatch(
  lines: readonly object[],
  overrides: Record<string, unknown> = {},
): Promise<Batch> {
  const file = await accepted<{ id: string }>(uploadText(toText(lines)))
  return accepted<Batch>(
    client.call('POST', '/v1/batches', {
      input_file_id: file.id,
      endpoint: CHAT,
      completion_window: '24h',
      ...overrides,
    }),
  )
}

const readBatch = (id: string) => accepted<Batch>(client.call('GET', `/v1/batches/${id}`))

const untilEnded = (id: string): Promise<Batch> =>
  vi.waitFor(
    async () => {
      const batch = await readBatch(id)
      if (!ENDED.includes(batch.status)) throw new Error(`batch is ${batch.status}`)
      return batch
    },
    { timeout: 30_000, interval: 20 },
  )

type ResultLine = {
  readonly id: string
  readonly custom_id: string
  readonly response: {
    readonly status_code: number
    readonly request_id: string
    readonly body: Record<string, unknown> & { readonly error?: { readonly param: string } }
  } | null
  readonly error: { readonly code: string; readonly message: string } | null
}

async function readLines(fileId: string | null): Promise<ResultLine[]> {
  if (fileId === null) return []
  const response = await client.call('GET', `/v1/files/${fileId}/content`)
  const text = await response.text()
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ResultLine)
}

/** Lets so many requests reach the runner at once, and holds the others until it is released. */
function holdAfter(numFree: number) {
  let numCalls = 0
  const { promise: held, resolve } = Promise.withResolvers<null>()
  runner.intercept = (request) => {
    if (!request.url.endsWith('/v1/generate')) return null
    numCalls += 1
    return numCalls > numFree ? held : null
  }
  return {
    reached: () =>
      vi.waitFor(
        () => {
          if (numCalls <= numFree) throw new Error(`${numCalls} calls`)
        },
        { timeout: 20_000 },
      ),
    release: () => {
      resolve(null)
    },
  }
}

type UsageRow = { request_id: string; prompt_tokens: number; completion_tokens: number }
const usageRows = async (): Promise<UsageRow[]> =>
  (
    await env.DB.prepare(
      'SELECT request_id, prompt_tokens, completion_tokens FROM usage WHERE project_id = ?',
    )
      .bind(projectId)
      .all<UsageRow>()
  ).results

describe('a batch', () => {
  it('answers each line once, in the order of its file', async ({ expect }) => {
    const ids = Array.from({ length: 40 }, (_, i) => `line ${i}`)
    const made = await createBatch(
      ids.map((id) => chatLine(id)),
      { metadata: { run: 'first' } },
    )
    expect(made).toMatchObject({
      object: 'batch',
      endpoint: CHAT,
      completion_window: '24h',
      status: 'validating',
      errors: null,
      output_file_id: null,
      metadata: { run: 'first' },
    })
    expect(made.expires_at - made.created_at).toBe(86_400)
    const batch = await untilEnded(made.id)
    expect(batch).toMatchObject({
      status: 'completed',
      model: MODEL,
      request_counts: { total: 40, completed: 40, failed: 0 },
      error_file_id: null,
      usage: {
        input_tokens: 280,
        input_tokens_details: { cached_tokens: 160 },
        output_tokens: 80,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 360,
      },
    })
    for (const time of ['in_progress_at', 'finalizing_at', 'completed_at'] as const) {
      expect(batch[time]).toBeGreaterThanOrEqual(batch.created_at)
    }
    const lines = await readLines(batch.output_file_id)
    expect(lines.map(({ custom_id: id }) => id)).toEqual(ids)
    expect(lines[0]).toMatchObject({
      id: expect.stringMatching(/^batch_req_[0-9a-f]{32}$/) as string,
      response: {
        status_code: 200,
        request_id: expect.stringMatching(/^req_[0-9a-f]{32}$/) as string,
        body: {
          object: 'chat.completion',
          service_tier: 'flex',
          choices: [{ message: { content: 'Hello there' } }],
        },
      },
      error: null,
    })
    expect(new Set(runner.generateRequests.map((request) => request.service_tier))).toEqual(
      new Set(['flex']),
    )
    const file = await accepted<object>(client.call('GET', `/v1/files/${batch.output_file_id!}`))
    expect(file).toMatchObject({ purpose: 'batch_output', arcana: { num_examples: 40 } })
    const usage = await usageRows()
    expect(new Set(usage.map((row) => row.request_id))).toEqual(
      new Set(lines.map(({ response }) => response!.request_id)),
    )
    expect(usage).toHaveLength(40)
  })

  it('takes tasks, completions and responses', async ({ expect }) => {
    await publishTask(projectId, 'news')
    const chat = await untilEnded(
      (await createBatch([chatLine('a', { model: `${MODEL}:news` }), chatLine('b')])).id,
    )
    expect(chat.model).toBeNull()
    expect(
      (await readLines(chat.output_file_id)).map(({ response }) => response!.body),
    ).toMatchObject([
      { model: `${MODEL}:news`, choices: [{ message: { content: 'World' } }] },
      { model: MODEL },
    ])
    for (const [endpoint, body, object] of [
      ['/v1/completions', { prompt: ['Once', 'Twice'] }, 'text_completion'],
      ['/v1/responses', { input: 'Hi' }, 'response'],
    ] as const) {
      const line = {
        custom_id: 'a',
        method: 'POST',
        url: endpoint,
        body: { model: MODEL, ...body },
      }
      const batch = await untilEnded((await createBatch([line], { endpoint })).id)
      expect(await readLines(batch.output_file_id)).toMatchObject([
        { response: { body: { object, service_tier: 'flex' } } },
      ])
    }
  })

  it('puts lines that fail in an error file, and the others in the output file', async ({
    expect,
  }) => {
    const made = await createBatch([
      chatLine('no model', { model: 'none' }),
      chatLine('fine'),
      chatLine('stream', { stream: true }),
      chatLine('tier', { service_tier: 'priority' }),
      chatLine('field', { banana: 1 }),
    ])
    const batch = await untilEnded(made.id)
    expect(batch).toMatchObject({
      status: 'completed',
      request_counts: { total: 5, completed: 1, failed: 4 },
    })
    const lines = await readLines(batch.error_file_id)
    expect(
      lines.map(({ custom_id: id, response }) => [
        id,
        response?.status_code,
        response?.body.error?.param,
      ]),
    ).toEqual([
      ['no model', 404, 'model'],
      ['stream', 400, 'stream'],
      ['tier', 400, 'service_tier'],
      ['field', 400, 'banana'],
    ])
    expect((await readLines(batch.output_file_id)).map((line) => line.custom_id)).toEqual(['fine'])
    expect(await usageRows()).toHaveLength(1)
  })

  it('tries a line again whose runner fails, and gives it up after four tries', async ({
    expect,
  }) => {
    let numDeaths = 0
    runner.editEvents = (events) => {
      const isBad = events.some((event) => event.event === 'token' && event.text === 'bad')
      if (!isBad && numDeaths > 0) return events
      numDeaths += 1
      return [...events.slice(0, 2), 'die']
    }
    const batch = await untilEnded((await createBatch([chatLine('a'), chatLine('b')])).id)
    expect(batch.request_counts).toEqual({ total: 2, completed: 2, failed: 0 })
    expect(numDeaths).toBe(1)
    runner.words = () => ['bad']
    const bad = await untilEnded((await createBatch([chatLine('c')])).id)
    expect(bad.request_counts).toEqual({ total: 1, completed: 0, failed: 1 })
    expect(await readLines(bad.error_file_id)).toMatchObject([
      { custom_id: 'c', response: { status_code: 502, body: { error: { code: 'runner_died' } } } },
    ])
    expect(numDeaths).toBe(5)
    expect(await usageRows()).toHaveLength(2)
  })

  it('waits while no runner has room', async ({ expect }) => {
    let numRefused = 0
    runner.intercept = (request) => {
      if (!request.url.endsWith('/v1/generate') || numRefused >= 3) return null
      numRefused += 1
      return refuse(503, 'over_capacity', 'over_capacity')
    }
    const batch = await untilEnded((await createBatch([chatLine('a')])).id)
    expect(numRefused).toBe(3)
    expect(batch).toMatchObject({ status: 'completed', request_counts: { completed: 1 } })
  })
})

describe('a cancelled batch', () => {
  it('keeps what was done and says of the rest that it was not', async ({ expect }) => {
    const ids = Array.from({ length: 40 }, (_, i) => String(i))
    const held = holdAfter(5)
    const made = await createBatch(ids.map((id) => chatLine(id)))
    await held.reached()
    const path = `/v1/batches/${made.id}/cancel`
    expect(await accepted<Batch>(client.call('POST', path))).toMatchObject({
      status: 'cancelling',
      output_file_id: null,
    })
    expect((await accepted<Batch>(client.call('POST', path))).status).toBe('cancelling')
    held.release()
    const batch = await untilEnded(made.id)
    expect(batch.status).toBe('cancelled')
    expect(batch.cancelled_at).toBeGreaterThanOrEqual(batch.cancelling_at!)
    const [output, errors] = [
      await readLines(batch.output_file_id),
      await readLines(batch.error_file_id),
    ]
    const { total, completed, failed } = batch.request_counts
    expect([total, failed]).toEqual([40, 0])
    // The five, and the sixteen that ran when the cancel came.
    expect(completed).toBe(21)
    expect(output).toHaveLength(completed)
    expect(output.every(({ response }) => response?.status_code === 200)).toBe(true)
    expect(new Set(errors.map((line) => line.error?.code))).toEqual(new Set(['batch_cancelled']))
    expect(errors.every(({ response }) => response === null)).toBe(true)
    expect([...output, ...errors].map((line) => line.custom_id).sort()).toEqual([...ids].sort())
    expect(await usageRows()).toHaveLength(completed)
    const again = await client.call('POST', path)
    expect(again.status).toBe(409)
    expect(await again.json()).toMatchObject({
      error: { message: "Cannot cancel a batch with status 'cancelled'." },
    })
  })
})

describe('a batch past its completion window', () => {
  it('keeps what was done and has expired', async ({ expect }) => {
    const ids = Array.from({ length: 40 }, (_, i) => String(i))
    const held = holdAfter(20)
    const made = await createBatch(ids.map((id) => chatLine(id)))
    await held.reached()
    const now = Date.now
    vi.spyOn(Date, 'now').mockImplementation(() => now() + 86_400_000)
    held.release()
    const batch = await untilEnded(made.id)
    expect(batch.status).toBe('expired')
    expect(batch.expired_at).toBeGreaterThanOrEqual(batch.expires_at)
    const errors = await readLines(batch.error_file_id)
    expect(new Set(errors.map((line) => line.error?.code))).toEqual(new Set(['batch_expired']))
    const output = await readLines(batch.output_file_id)
    expect(output).toHaveLength(36)
    expect([...output, ...errors].map((line) => line.custom_id).sort()).toEqual([...ids].sort())
    expect(batch.request_counts).toEqual({ total: 40, completed: output.length, failed: 0 })
  })
})

describe('a file of requests', () => {
  it('that is not JSON lines is refused at its upload', async ({ expect }) => {
    for (const [text, message] of [
      ['{"custom_id": "a"}\nnot json\n[]', /Line 2: .*JSON.* Line 3: .*object/],
      ['', /holds no requests/],
      ['{}\n'.repeat(50_001), /more than 50000 lines/],
      [`{"a": "${'x'.repeat(300_000)}"}`, /Line 1: .*longer than/],
    ] as const) {
      const response = await uploadText(text)
      expect(response.status).toBe(400)
      const { error } = await response.json<{ error: { message: string; param: string } }>()
      expect(error.message).toMatch(message)
      expect(error.param).toBe('file')
    }
  })

  it('with faulty requests fails its batch, which names the lines', async ({ expect }) => {
    const { body, ...rest } = chatLine('body')
    const made = await createBatch([
      chatLine('a'),
      chatLine('a'),
      { ...chatLine('b'), method: 'GET' },
      { ...chatLine('c'), url: '/v1/completions' },
      rest,
      { ...chatLine('d'), body: 'text' },
      { ...chatLine('e'), custom_id: undefined },
      { ...chatLine('f'), headers: {} },
    ])
    expect(body).toBeDefined()
    const batch = await untilEnded(made.id)
    expect(batch).toMatchObject({
      status: 'failed',
      output_file_id: null,
      error_file_id: null,
      request_counts: { total: 0, completed: 0, failed: 0 },
      errors: { object: 'list' },
    })
    expect(batch.failed_at).toBeGreaterThanOrEqual(batch.created_at)
    expect(batch.errors?.data.map(({ line, code, param }) => [line, code, param])).toEqual([
      [2, 'duplicate_custom_id', 'custom_id'],
      [3, 'invalid_parameter', 'method'],
      [4, 'mismatched_url', 'url'],
      [5, 'missing_required_parameter', 'body'],
      [6, 'invalid_parameter', 'body'],
      [7, 'missing_required_parameter', 'custom_id'],
      [8, 'invalid_parameter', 'headers'],
    ])
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('may be deleted while its batch runs', async ({ expect }) => {
    const held = holdAfter(0)
    const made = await createBatch([chatLine('a'), chatLine('b')])
    await held.reached()
    await accepted(client.call('DELETE', `/v1/files/${made.input_file_id}`))
    held.release()
    expect((await untilEnded(made.id)).request_counts.completed).toBe(2)
  })
})

describe('POST /v1/batches', () => {
  it('refuses what it cannot do, by name', async ({ expect }) => {
    const file = await accepted<{ id: string }>(uploadText(toText([chatLine('a')])))
    const form = new FormData()
    form.append('file', new File(['{"input": "a", "label": "b"}'], 'a.jsonl'))
    form.append('purpose', 'fine-tune')
    const training = await accepted<{ id: string }>(client.call('POST', '/v1/files', form))
    const good = { input_file_id: file.id, endpoint: CHAT, completion_window: '24h' }
    for (const [change, param] of [
      [{ input_file_id: 'file-none' }, 'input_file_id'],
      [{ input_file_id: training.id }, 'input_file_id'],
      [{ endpoint: '/v1/embeddings' }, 'endpoint'],
      [{ completion_window: '1h' }, 'completion_window'],
      [{ metadata: { a: 1 } }, 'metadata.a'],
      [{ output_expires_after: { anchor: 'created_at', seconds: 3600 } }, 'output_expires_after'],
    ] as const) {
      const response = await client.call('POST', '/v1/batches', { ...good, ...change })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
  })
})

describe('GET /v1/batches', () => {
  it('pages by cursor, newest first', async ({ expect }) => {
    const ids: string[] = []
    for (const id of ['a', 'b', 'c']) ids.push((await createBatch([chatLine(id)])).id)
    for (const id of ids) await untilEnded(id)
    type List = { data: Batch[]; has_more: boolean; last_id: string }
    const first = await accepted<List>(client.call('GET', '/v1/batches?limit=2'))
    expect(first.has_more).toBe(true)
    const second = await accepted<List>(
      client.call('GET', `/v1/batches?limit=2&after=${first.last_id}`),
    )
    expect(second.has_more).toBe(false)
    const all = [...first.data, ...second.data]
    expect(all.map(({ id }) => id).sort()).toEqual([...ids].sort())
    expect(all.every(({ status }) => status === 'completed')).toBe(true)
    expect((await client.call('GET', '/v1/batches?limit=101')).status).toBe(400)
  })

  it('needs the scope of inference', async ({ expect }) => {
    const other = clientOf((await makeProject({ scopes: ['tasks:write'] })).key)
    expect((await other.call('GET', '/v1/batches')).status).toBe(403)
  })
})
