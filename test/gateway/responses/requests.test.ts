import { describe, it } from 'vitest'
import { client, projectId, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL, publishTask } from '../harness.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

const CALL = { type: 'function_call', call_id: 'c1', name: 'f', arguments: '{"a": 1}' }
const RESULT = { type: 'function_call_output', call_id: 'c1', output: 'yes' }
const SAID = {
  type: 'message',
  id: 'msg_1',
  status: 'completed',
  role: 'assistant',
  content: [{ type: 'output_text', text: 'Well.', annotations: [], logprobs: [], parsed: null }],
}
const USER = { role: 'user', content: 'Hi' }

describe('a list of items', () => {
  it('becomes a chat’s messages, with an answer’s text and calls in one message', async ({
    expect,
  }) => {
    const response = await client.respond({
      instructions: 'First.',
      input: [
        { role: 'system', content: 'S' },
        { role: 'developer', content: [{ type: 'input_text', text: 'D' }] },
        {
          type: 'message',
          role: 'user',
          content: [
            { type: 'input_text', text: 'a' },
            { type: 'input_text', text: 'b' },
          ],
        },
        SAID,
        { ...CALL, id: 'fc_1', status: 'completed', parsed_arguments: null, namespace: null },
        { ...CALL, call_id: 'c2', arguments: '{}' },
        { ...RESULT, call_id: 'c2', output: [{ type: 'input_text', text: 'two' }] },
        { ...RESULT, id: null, name: 'f' },
        { role: 'assistant', content: 'So.' },
        { ...CALL, call_id: 'c3' },
        { ...RESULT, call_id: 'c3' },
      ],
    })
    expect(response.status).toBe(200)
    const call = { name: 'f', arguments: { a: 1 } }
    expect(runner.generateRequests[0]!.messages).toEqual([
      { role: 'system', content: 'First.' },
      { role: 'system', content: 'S' },
      { role: 'system', content: 'D' },
      { role: 'user', content: 'ab' },
      {
        role: 'assistant',
        content: 'Well.',
        tool_calls: [
          { ...call, id: 'c1' },
          { id: 'c2', name: 'f', arguments: {} },
        ],
      },
      { role: 'tool', content: 'two', tool_call_id: 'c2', name: 'f' },
      { role: 'tool', content: 'yes', tool_call_id: 'c1', name: 'f' },
      { role: 'assistant', content: 'So.', tool_calls: [{ ...call, id: 'c3' }] },
      { role: 'tool', content: 'yes', tool_call_id: 'c3', name: 'f' },
    ])
  })
})

describe('a parameter without effect', () => {
  const HARMLESS = {
    previous_response_id: null,
    background: false,
    truncation: 'disabled',
    store: false,
    stream: null,
    service_tier: 'auto',
    context_management: [],
    text: {},
    include: [],
    instructions: '',
  }

  it('is accepted and named in a header', async ({ expect }) => {
    const fields = {
      user: 'someone',
      safety_identifier: 'x',
      prompt_cache_key: 'k',
      prompt_cache_retention: '24h',
      reasoning: { effort: 'low', summary: 'auto' },
      max_tool_calls: 3,
    }
    const response = await client.respond({
      ...fields,
      include: ['reasoning.encrypted_content'],
      text: { verbosity: 'low' },
      store: false,
    })
    expect(response.status).toBe(200)
    const named = response.headers.get('x-arcana-ignored')!.split(', ')
    expect(named.sort()).toEqual([...Object.keys(fields), 'include', 'text.verbosity'].sort())
    await client.respond(HARMLESS)
    const [one, two] = runner.generateRequests
    expect({ ...one, service_tier: 'default' }).toEqual({ ...two, request_id: one!.request_id })
  })

  it('is not named if it has the value that applies anyway', async ({ expect }) => {
    const response = await client.respond(HARMLESS)
    expect(response.status).toBe(200)
    expect(response.headers.has('x-arcana-ignored')).toBe(false)
    expect(await response.json()).toMatchObject({ service_tier: 'default' })
  })
})

describe('an unsupported feature', () => {
  const tool = (fields: object) => ({ tools: [{ type: 'function', name: 'f', ...fields }] })
  const content = (...parts: object[]) => ({ input: [USER, { role: 'user', content: parts }] })
  const hosted = [
    'web_search',
    'web_search_preview',
    'file_search',
    'code_interpreter',
    'computer_use_preview',
    'image_generation',
    'local_shell',
    'mcp',
    'custom',
  ].map((type): [string, object, string] => [type, { tools: [{ type }] }, 'tools[0].type'])
  const cases: readonly [string, object, string][] = [
    ['an answer gone on with', { previous_response_id: 'resp_1' }, 'previous_response_id'],
    ['a conversation', { conversation: 'conv_1' }, 'conversation'],
    ['work in the background', { background: true }, 'background'],
    ['an answer that is kept', { store: true }, 'store'],
    ['a stored prompt', { prompt: { id: 'pmpt_1' } }, 'prompt'],
    ['a prompt that is cut', { truncation: 'auto' }, 'truncation'],
    ['compaction', { context_management: [{ type: 'compaction' }] }, 'context_management'],
    ['moderation', { moderation: { model: 'x' } }, 'moderation'],
    ...hosted,
    ['a choice of a hosted tool', { tool_choice: { type: 'mcp' } }, 'tool_choice'],
    [
      'a choice of another',
      { ...tool({}), tool_choice: { type: 'function', name: 'g' } },
      'tool_choice.name',
    ],
    ['a choice without tools', { tool_choice: 'required' }, 'tool_choice'],
    ['a function without a name', { tools: [{ type: 'function' }] }, 'tools[0].name'],
    ['a function twice', { tools: [...tool({}).tools, ...tool({}).tools] }, 'tools[1].name'],
    ['a function of a chat', tool({ function: { name: 'f' } }), 'tools[0].function'],
    ['a format of no kind', { text: { format: { type: 'xml' } } }, 'text.format.type'],
    [
      'a format without a schema',
      { text: { format: { type: 'json_schema', name: 'x' } } },
      'text.format.schema',
    ],
    ['an image', content({ type: 'input_image', image_url: 'data:,' }), 'input[1].content[0].type'],
    ['a file', content({ type: 'input_file', file_id: 'f' }), 'input[1].content[0].type'],
    [
      'a second image',
      content({ type: 'input_text', text: 'a' }, { type: 'input_image' }),
      'input[1].content[1].type',
    ],
    ['a reference', { input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input[0].type'],
    [
      'a hosted tool’s call',
      { input: [USER, { type: 'web_search_call', id: 'x' }] },
      'input[1].type',
    ],
    ['a result of no call', { input: [USER, RESULT] }, 'input[1].call_id'],
    ['a result of another function', { input: [CALL, { ...RESULT, name: 'g' }] }, 'input[1].name'],
    [
      'arguments that are no object',
      { input: [{ ...CALL, arguments: '[1]' }] },
      'input[0].arguments',
    ],
    ['a role of no kind', { input: [{ role: 'tool', content: 'x' }] }, 'input[0].role'],
    ['a field of no item', { input: [{ ...USER, name: 'bob' }] }, 'input[0].name'],
    ['a message without content', { input: [{ role: 'user' }] }, 'input[0].content'],
    ['an item that is none', { input: [USER, 7] }, 'input[1]'],
    ['no items', { input: [] }, 'input'],
    ['no input', { input: null }, 'input'],
    ['several answers', { n: 2 }, 'n'],
    ['a chat’s field', { messages: [USER] }, 'messages'],
    ['what cannot be included', { include: ['everything'] }, 'include[0]'],
    ['no tokens', { max_output_tokens: 0 }, 'max_output_tokens'],
    ['more tokens than there are', { max_output_tokens: 1e9 }, 'max_output_tokens'],
    ['stream options of a whole answer', { stream_options: {} }, 'stream_options'],
    ['confidence in free text', { arcana: { min_confidence: 0.5 } }, 'arcana.min_confidence'],
  ]
  it.for(cases)('is refused by name: %s', async ([, body, param], { expect }) => {
    const response = await client.respond(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { type: 'invalid_request_error', param },
    })
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('beside a task’s labels is refused with this route’s field names', async ({ expect }) => {
    await publishTask(projectId, 'news')
    const response = await client.respond(
      { text: { format: { type: 'json_object' } } },
      { 'x-task': 'news' },
    )
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { param: string; message: string } }>()
    expect(error.param).toBe('text.format')
    expect(error.message).toMatch(/^text\.format applies only to free text/)
  })

  it('in the runner’s faults has this route’s field names', async ({ expect }) => {
    for (const [fault, param] of [
      ['messages', 'input'],
      ['response_format', 'text.format'],
      ['tools[1].function.parameters', 'tools[1].parameters'],
      ['logit_bias', 'logit_bias'],
    ] as const) {
      runner.intercept = (request) =>
        request.url.endsWith('/v1/generate')
          ? refuse(400, 'invalid_request', 'fatal', { param: fault })
          : null
      const response = await client.respond({})
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { param } })
    }
  })

  it('is a query parameter, or a stored response', async ({ expect }) => {
    const query = await client.call('POST', '/v1/responses?include=x', { model: MODEL, input: 'a' })
    expect(query.status).toBe(400)
    expect(await query.json()).toMatchObject({ error: { param: 'include' } })
    for (const [method, path] of [
      ['GET', '/v1/responses/resp_1'],
      ['POST', '/v1/responses/resp_1/cancel'],
    ] as const) {
      const stored = await client.call(method, path)
      expect(stored.status).toBe(404)
      expect(await stored.json()).toMatchObject({ error: { code: 'unsupported_endpoint' } })
    }
  })
})
