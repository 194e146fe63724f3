/** The content of responses. test/conformance/responses.ts tests them with OpenAI's client. */
import { env } from 'cloudflare:workers'
import { describe, it, vi } from 'vitest'
import type { ResponseEvent, ResponseObject } from '../../../src/protocol/openai/responses.ts'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL, publishTask, readSse, withCalls } from '../harness.ts'

useFreshProject()

const ask = async (body: object, headers: Record<string, string> = {}): Promise<ResponseObject> => {
  const response = await client.respond(body, headers)
  if (!response.ok) throw new Error(await response.text())
  return response.json<ResponseObject>()
}
const stream = async (body: object, headers: Record<string, string> = {}) => {
  const response = await client.respond({ ...body, stream: true }, headers)
  const { events, isDone } = await readSse(response)
  return { response, events: events as unknown as ResponseEvent[], isDone }
}
/** Ids and times differ between equal answers. */
const withoutOwn = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, own: unknown) =>
      ['id', 'call_id', 'item_id', 'created_at', 'completed_at'].includes(key) ? typeof own : own,
    ),
  )
const lastOf = (events: readonly ResponseEvent[]): ResponseObject => {
  const last = events.at(-1)!
  if (!('response' in last)) throw new Error(`${last.type} is no end`)
  return last.response
}
const MESSAGE = 'response.output_item.added response.content_part.added'
const MESSAGE_DONE =
  'response.output_text.done response.content_part.done response.output_item.done'
const typesOf = (events: readonly ResponseEvent[]) => events.map(({ type }) => type).join(' ')

const TOOLS = [
  { type: 'function', name: 'f', parameters: { type: 'object' }, strict: true },
  { type: 'function', name: 'g', description: 'Does g.', parameters: null },
]
describe('a response', () => {
  it('answers in OpenAI’s shape, with the request’s settings and store: false', async ({
    expect,
  }) => {
    const response = await client.respond({
      instructions: 'Be brief.',
      temperature: 0.5,
      max_output_tokens: 9,
      metadata: { a: 'b' },
    })
    expect(response.headers.get('x-arcana-ignored')).toBe('store')
    const body = await response.json<ResponseObject>()
    expect(body.id).toMatch(/^resp_/)
    expect(body).toMatchObject({
      object: 'response',
      status: 'completed',
      model: MODEL,
      error: null,
      incomplete_details: null,
      instructions: 'Be brief.',
      max_output_tokens: 9,
      metadata: { a: 'b' },
      temperature: 0.5,
      top_p: 1,
      parallel_tool_calls: true,
      tool_choice: 'auto',
      tools: [],
      text: { format: { type: 'text' } },
      store: false,
      previous_response_id: null,
      output: [
        {
          type: 'message',
          status: 'completed',
          role: 'assistant',
          content: [{ type: 'output_text', text: 'Hello there', annotations: [], logprobs: [] }],
        },
      ],
      usage: {
        input_tokens: 7,
        input_tokens_details: { cached_tokens: 4 },
        output_tokens: 2,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 9,
      },
      arcana: { task: null, adapters: [] },
    })
    expect(runner.generateRequests[0]).toMatchObject({
      tenant: projectId,
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Hi' },
      ],
      sampling: { temperature: 0.5, top_p: 1, max_tokens: 9, stop: [] },
    })
  })

  it('streams numbered and named events that end with the whole response', async ({ expect }) => {
    const { response, events, isDone } = await stream({})
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    expect(isDone).toBe(false)
    expect(typesOf(events)).toBe(
      `response.created response.in_progress ${MESSAGE} response.output_text.delta ` +
        `response.output_text.delta ${MESSAGE_DONE} response.completed`,
    )
    expect(events.map(({ sequence_number: n }) => n)).toEqual(events.map((_, i) => i))
    expect(events[0]).toMatchObject({
      response: { status: 'in_progress', output: [], usage: null },
    })
    expect(events.slice(4, 6)).toMatchObject([{ delta: 'Hello' }, { delta: ' there' }])
    expect(withoutOwn(lastOf(events))).toEqual(withoutOwn(await ask({})))
    const again = await (await client.respond({ stream: true })).text()
    expect(again.split('\n\n')[0]).toMatch(
      /^event: response\.created\ndata: \{"type":"response\.created"/,
    )
  })

  it('is counted under its own name, whole and streamed', async ({ expect }) => {
    await ask({})
    await stream({})
    const object = env.LIMITS.get(env.LIMITS.idFromName(projectId))
    await vi.waitFor(async () => {
      const minutes = await object.openUsage()
      const total = (name: 'numRequests' | 'promptTokens' | 'completionTokens') =>
        minutes.reduce((sum, minute) => sum + minute[name], 0)
      expect(minutes.map(({ route }) => route)).toContain('responses')
      expect(total('numRequests')).toBe(2)
      expect([total('promptTokens'), total('completionTokens')]).toEqual([14, 4])
    })
  })

  it('that is cut is incomplete, whole and streamed', async ({ expect }) => {
    runner.editEvents = (events) =>
      events.map((event) => (event.event === 'end' ? { ...event, finish_reason: 'length' } : event))
    const body = await ask({ max_output_tokens: 2 })
    expect(body).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      completed_at: null,
      output: [{ status: 'incomplete', content: [{ text: 'Hello there' }] }],
      usage: { output_tokens: 2 },
    })
    const { events } = await stream({ max_output_tokens: 2 })
    expect(events.at(-1)!.type).toBe('response.incomplete')
    expect(withoutOwn(lastOf(events))).toEqual(withoutOwn(body))
  })

  it('without a word has an empty text', async ({ expect }) => {
    runner.words = () => []
    expect((await ask({})).output).toMatchObject([{ content: [{ text: '' }] }])
    expect(typesOf((await stream({})).events)).toContain(`${MESSAGE} ${MESSAGE_DONE}`)
  })

  it('that fails midway is 502, or says so as its last event', async ({ expect }) => {
    runner.editEvents = (events) => [...events.slice(0, 2), 'die']
    expect((await client.respond({})).status).toBe(502)
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'end' ? { ...event, applied: { ...event.applied, layers: [1] } } : event,
      )
    const { events, isDone } = await stream({})
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({
      type: 'response.failed',
      response: {
        status: 'failed',
        error: { code: 'server_error', message: expect.stringContaining('runner') as string },
        output: [{ status: 'incomplete', content: [{ text: 'Hello there' }] }],
        usage: null,
      },
    })
  })

  it('has log probabilities where they are included', async ({ expect }) => {
    const asked = { include: ['message.output_text.logprobs'], top_logprobs: 2 }
    const body = await ask(asked)
    expect(runner.generateRequests[0]!.sampling.logprobs).toBe(2)
    expect(body.output).toMatchObject([
      {
        content: [
          {
            logprobs: [
              { token: 'Hello', logprob: -0.25, top_logprobs: [{ token: 'alt 0' }, {}] },
              { token: ' there' },
            ],
          },
        ],
      },
    ])
    const { events } = await stream(asked)
    expect(events[4]).toMatchObject({ delta: 'Hello', logprobs: [{ token: 'Hello' }] })
    expect(withoutOwn(lastOf(events))).toEqual(withoutOwn(body))
  })

  it('with a format follows it', async ({ expect }) => {
    const schema = { type: 'object', properties: { a: { type: 'string' } } }
    const format = { type: 'json_schema', name: 'x', schema, strict: true }
    expect((await ask({ text: { format } })).text.format).toEqual(format)
    await ask({ text: { format: { type: 'json_object' } } })
    await ask({ text: { format: { type: 'text' }, verbosity: null } })
    expect(runner.generateRequests.map((request) => request.response_format)).toEqual([
      { type: 'json_schema', schema, strict: true },
      { type: 'json_object' },
      undefined,
    ])
  })
})

describe('functions', () => {
  it('go to the runner with the choice, and come back in the response', async ({ expect }) => {
    const body = await ask({ tools: TOOLS, tool_choice: { type: 'function', name: 'g' } })
    expect(body.tools).toEqual([
      { ...TOOLS[0], description: null },
      { ...TOOLS[1], strict: false },
    ])
    expect(body.tool_choice).toEqual({ type: 'function', name: 'g' })
    await ask({ tools: TOOLS, tool_choice: 'required', parallel_tool_calls: false })
    await ask({ tools: TOOLS, tool_choice: 'none' })
    const functions = [
      { name: 'f', parameters: { type: 'object' }, strict: true },
      { name: 'g', description: 'Does g.' },
    ]
    expect(runner.generateRequests.map(({ tools }) => tools)).toEqual([
      { functions, choice: { name: 'g' }, parallel: true },
      { functions, choice: 'required', parallel: false },
      undefined,
    ])
  })

  it('called are items after the text, whole and streamed', async ({ expect }) => {
    runner.words = () => ['Let me see.']
    runner.editEvents = withCalls
    const body = await ask({ tools: TOOLS })
    expect(body).toMatchObject({
      status: 'completed',
      output: [
        { type: 'message', content: [{ text: 'Let me see.' }] },
        { type: 'function_call', name: 'f', arguments: '{"a":"x"}', status: 'completed' },
        { type: 'function_call', name: 'g', arguments: '{}', status: 'completed' },
      ],
    })
    const ids = body.output.flatMap((item) => (item.type === 'message' ? [] : [item.call_id]))
    expect(new Set(ids).size).toBe(2)
    expect(ids[0]).toMatch(/^call_/)
    const { events } = await stream({ tools: TOOLS })
    const call = (numDeltas: number) =>
      'response.output_item.added ' +
      'response.function_call_arguments.delta '.repeat(numDeltas) +
      'response.function_call_arguments.done response.output_item.done'
    expect(typesOf(events)).toBe(
      `response.created response.in_progress ${MESSAGE} response.output_text.delta ` +
        `${MESSAGE_DONE} ${call(2)} ${call(1)} response.completed`,
    )
    expect(withoutOwn(lastOf(events))).toEqual(withoutOwn(body))
    const places = events.flatMap((event) => ('output_index' in event ? [event.output_index] : []))
    expect(places).toEqual(places.toSorted())
    expect(new Set(places)).toEqual(new Set([0, 1, 2]))
  })

  it('whose call is cut are incomplete', async ({ expect }) => {
    runner.words = () => []
    runner.editEvents = (events) =>
      withCalls(events).flatMap((event) => {
        if (event.event === 'tool_call' && event.index === 1) return []
        return [event.event === 'end' ? { ...event, finish_reason: 'length' } : event]
      })
    expect(await ask({ tools: TOOLS })).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output: [{ name: 'f', arguments: '{"a":"x"}', status: 'incomplete' }],
    })
  })
})

describe('a task’s response', () => {
  it('has its label, by model or header, with the proof', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'news')
    for (const [body, headers] of [
      [{ model: `${MODEL}:news` }, {}],
      [{}, { 'x-task': 'news' }],
    ] as const) {
      const response = await client.respond(
        { ...body, instructions: 'Mine.', stop: 'x', include: ['message.output_text.logprobs'] },
        headers,
      )
      expect(response.headers.get('x-arcana-task')).toBe('news')
      expect(response.headers.get('x-arcana-adapter')).toBe(digest)
      expect(response.headers.get('x-arcana-warning')).toBe('frame-replaced, stop-of-label')
      expect(await response.json()).toMatchObject({
        model: `${MODEL}:news`,
        temperature: 0,
        output: [{ content: [{ text: 'World', logprobs: [{ token: 'World', logprob: 0 }] }] }],
        arcana: { task: 'news', version: 1, labels: [{ label: 'World', probability: 1 }, {}] },
      })
    }
    const { events } = await stream({}, { 'x-task': 'news' })
    expect(events[0]).toMatchObject({ response: { arcana: { task: 'news' } } })
    expect(lastOf(events)).toMatchObject({ arcana: { labels: [{ probability: 1 }, {}] } })
  })

  it('that is withheld is a message without content, or the fallback', async ({ expect }) => {
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'labels'
          ? { ...event, labels: event.labels.map((label) => ({ ...label, probability: 0.5 })) }
          : event,
      )
    await publishTask(projectId, 'news')
    const headers = { 'x-task': 'news' }
    const unsure = { arcana: { min_confidence: 0.7 } }
    const body = await ask(unsure, headers)
    expect(body).toMatchObject({ status: 'completed', arcana: { withheld: true } })
    expect(body.output).toMatchObject([{ type: 'message', role: 'assistant', content: [] }])
    const { events } = await stream(unsure, headers)
    expect(typesOf(events)).toBe(
      'response.created response.in_progress response.output_item.added ' +
        'response.output_item.done response.completed',
    )
    expect(withoutOwn(lastOf(events))).toEqual(withoutOwn(body))
    // It may be sent back unchanged.
    await ask({ input: [{ role: 'user', content: 'Hi' }, ...body.output] })
    expect(runner.generateRequests.at(-1)!.messages!.at(-1)).toEqual({
      role: 'assistant',
      content: '',
    })
    const named = await ask({ arcana: { min_confidence: 0.7, fallback_label: '?' } }, headers)
    expect(named.output).toMatchObject([{ content: [{ text: '?' }] }])
  })
})
