/** Functions at the gateway; test/conformance/tools.test.ts tests them with a model. */
import { describe, it } from 'vitest'
import type {
  ChatCompletion,
  ChatCompletionChunk,
} from '../../src/protocol/openai/chat-completions.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask, readSse, withCalls } from './harness.ts'

useFreshProject()

const PARAMETERS = { type: 'object', properties: { b: {}, a: { type: 'string' } } }
const FUNCTION = { name: 'f', description: 'Does f.', parameters: PARAMETERS }
const TOOLS = [
  { type: 'function', function: FUNCTION },
  { type: 'function', function: { name: 'g' } },
]

describe('tools', () => {
  it('go to the runner unchanged, with the choice', async ({ expect }) => {
    await client.chat({ tools: TOOLS })
    await client.chat({ tools: TOOLS, tool_choice: 'required', parallel_tool_calls: false })
    await client.chat({ tools: TOOLS, tool_choice: { type: 'function', function: { name: 'g' } } })
    const functions = [FUNCTION, { name: 'g' }]
    expect(runner.generateRequests.map(({ tools }) => tools)).toEqual([
      { functions, choice: 'auto', parallel: true },
      { functions, choice: 'required', parallel: false },
      { functions, choice: { name: 'g' }, parallel: true },
    ])
    expect(JSON.stringify(runner.generateRequests[0]!.tools)).toContain('"b":{},"a":')
  })

  it('go to the runner beside a response format', async ({ expect }) => {
    const schema = { type: 'object', properties: {} }
    const json_schema = { name: 'answer', strict: true, schema }
    const format = { type: 'json_schema', json_schema }
    const asked = await client.chat({ tools: TOOLS, response_format: format })
    expect(asked.status).toBe(200)
    const other = { type: 'json_schema', ...json_schema }
    const tools = TOOLS.map(({ type, function: each }) => ({ type, ...each }))
    const responded = await client.call('POST', '/v1/responses', {
      model: MODEL,
      input: 'Hi',
      tools,
      text: { format: other },
    })
    expect(responded.status).toBe(200)
    const functions = [FUNCTION, { name: 'g' }]
    for (const request of runner.generateRequests) {
      expect(request).toMatchObject({
        tools: { functions, choice: 'auto' },
        response_format: { type: 'json_schema', schema, strict: true },
      })
    }
    expect(runner.generateRequests).toHaveLength(2)
  })

  it('that must not be called are not shown to the model', async ({ expect }) => {
    await client.chat({ tools: TOOLS, tool_choice: 'none' })
    await client.chat({ tools: [], tool_choice: 'auto', parallel_tool_calls: true })
    expect(runner.generateRequests.map(({ tools }) => tools)).toEqual([undefined, undefined])
  })

  it('come back as calls in OpenAI’s shape', async ({ expect }) => {
    runner.editEvents = withCalls
    runner.words = () => []
    const body = await (await client.chat({ tools: TOOLS })).json<ChatCompletion>()
    const [choice] = body.choices
    expect(choice).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: null,
        tool_calls: [
          { type: 'function', function: { name: 'f', arguments: '{"a":"x"}' } },
          { type: 'function', function: { name: 'g', arguments: '{}' } },
        ],
      },
    })
    const ids = choice.message.tool_calls!.map(({ id }) => id)
    expect(new Set(ids).size).toBe(2)
    expect(ids[0]).toMatch(/^call_[0-9a-f]{32}$/)
  })

  it('are streamed as deltas, with name and id in a call’s first', async ({ expect }) => {
    runner.editEvents = withCalls
    runner.words = () => ['Let me see.']
    const { events, isDone } = await readSse(await client.chat({ tools: TOOLS, stream: true }))
    expect(isDone).toBe(true)
    const choices = (events as unknown as ChatCompletionChunk[]).map(({ choices }) => choices[0]!)
    expect(choices[0]!.delta).toEqual({ role: 'assistant', content: null })
    expect(choices[1]!.delta).toEqual({ content: 'Let me see.' })
    const deltas = choices.flatMap(({ delta }) => delta.tool_calls ?? [])
    expect(deltas.map(({ index, function: part }) => [index, part.name, part.arguments])).toEqual([
      [0, 'f', ''],
      [0, undefined, '{"a":'],
      [0, undefined, '"x"}'],
      [1, 'g', '{}'],
    ])
    expect(deltas.map(({ id, type }) => [id !== undefined, type])).toEqual([
      [true, 'function'],
      [false, undefined],
      [false, undefined],
      [true, 'function'],
    ])
    expect(choices.at(-1)!.finish_reason).toBe('tool_calls')
  })
})

const CALL = { id: 'call_1', type: 'function', function: { name: 'f', arguments: '{"a": 1}' } }

describe('the form of tools', () => {
  it('that the model was not taught is named in a header', async ({ expect }) => {
    for (const stream of [false, true]) {
      const taught = await client.chat({ tools: TOOLS, stream })
      expect(taught.headers.get('x-arcana-tools')).toBeNull()
      await taught.text()
    }
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'accepted' ? { ...event, tool_form: 'generic' as const } : event,
      )
    for (const stream of [false, true]) {
      const generic = await client.chat({ tools: TOOLS, stream })
      expect(generic.headers.get('x-arcana-tools')).toBe('generic')
      await generic.text()
    }
  })
})

describe('a conversation with calls', () => {
  it('goes to the runner with arguments as objects, and results named', async ({ expect }) => {
    await client.chat({
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: null, tool_calls: [CALL] },
        { role: 'tool', tool_call_id: 'call_1', content: [{ type: 'text', text: 'yes' }] },
      ],
    })
    expect(runner.generateRequests[0]!.messages).toEqual([
      { role: 'user', content: 'Hi' },
      {
        role: 'assistant',
        content: '',
        tool_calls: [{ id: 'call_1', name: 'f', arguments: { a: 1 } }],
      },
      { role: 'tool', content: 'yes', tool_call_id: 'call_1', name: 'f' },
    ])
  })

  it('keeps its calls under a task’s frame', async ({ expect }) => {
    await publishTask(projectId, 'framed', {
      instructions: 'Be kind.',
      position: 'after',
      labels: null,
    })
    await client.chat(
      {
        messages: [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: '', tool_calls: [CALL] },
          { role: 'tool', tool_call_id: 'call_1', content: 'yes' },
        ],
        tools: TOOLS,
      },
      { 'x-task': 'framed' },
    )
    expect(runner.generateRequests.at(-1)!.messages).toMatchObject([
      { role: 'user', content: 'Hi\n\nBe kind.' },
      { role: 'assistant', tool_calls: [{ name: 'f' }] },
      { role: 'tool', content: 'yes' },
    ])
  })
})

describe('an invalid tool', () => {
  const named = (name: string) => ({ type: 'function', function: { name } })
  const said = (message: object) => ({ messages: [{ role: 'user', content: 'Hi' }, message] })
  const cases: readonly [string, Record<string, unknown>, string][] = [
    ['a tool of no function', { tools: [{ type: 'function' }] }, 'tools[0].function'],
    ['a custom tool', { tools: [{ type: 'custom', custom: { name: 'x' } }] }, 'tools[0].type'],
    ['a name with a space', { tools: [named('a b')] }, 'tools[0].function.name'],
    ['a name twice', { tools: [named('a'), named('a')] }, 'tools[1].function.name'],
    ['129 tools', { tools: Array.from({ length: 129 }, (_, i) => named(`f${i}`)) }, 'tools'],
    ['a choice without tools', { tool_choice: 'required' }, 'tool_choice'],
    ['a choice of another', { tools: TOOLS, tool_choice: named('h') }, 'tool_choice.function.name'],
    ['a choice of no kind', { tools: TOOLS, tool_choice: 'maybe' }, 'tool_choice'],
    [
      'arguments that are no object',
      said({
        role: 'assistant',
        tool_calls: [{ ...CALL, function: { name: 'f', arguments: '[1]' } }],
      }),
      'messages[1].tool_calls[0].function.arguments',
    ],
    [
      'arguments nested past any use',
      said({
        role: 'assistant',
        tool_calls: [
          {
            ...CALL,
            function: { name: 'f', arguments: `{"a":${'['.repeat(9e4)}${']'.repeat(9e4)}}` },
          },
        ],
      }),
      'messages[1].tool_calls[0].function.arguments',
    ],
    [
      'calls of a user',
      said({ role: 'user', content: 'x', tool_calls: [CALL] }),
      'messages[1].tool_calls',
    ],
    ['a result of no call', said({ role: 'tool', content: 'x' }), 'messages[1].tool_call_id'],
    [
      'a result of an unknown call',
      said({ role: 'tool', content: 'x', tool_call_id: 'call_1' }),
      'messages[1].tool_call_id',
    ],
    [
      'an answer of no text',
      said({ role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] }),
      'messages[1].content[0].type',
    ],
  ]
  it.for(cases)('is refused by name: %s', async ([, body, param], { expect }) => {
    const response = await client.chat(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { type: 'invalid_request_error', param },
    })
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('a choice of labels beside functions is refused too', async ({ expect }) => {
    await publishTask(projectId, 'labelled', { labels: ['a', 'b'] })
    const headers = { 'x-task': 'labelled' }
    const refused = await client.chat({ tools: TOOLS }, headers)
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param: 'tools' } })
    const free = await client.chat({ tools: TOOLS }, { ...headers, 'x-arcana-choice': 'off' })
    expect(free.status).toBe(200)
  })
})
