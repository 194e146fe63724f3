import { describe, it, vi } from 'vitest'
import type {
  ChatCompletion,
  ChatCompletionChunk,
} from '../../src/protocol/openai/chat-completions.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { makeProject, MODEL, publishTask, readSse } from './harness.ts'
import { MODEL_DIGEST, refuse } from './runner-double.ts'

useFreshProject()

describe('the base model', () => {
  it('answers in OpenAI’s shape and states that nothing was applied', async ({ expect }) => {
    const response = await client.chat({})
    expect(response.status).toBe(200)
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    expect(response.headers.get('x-arcana-task')).toBeNull()
    expect(await response.json()).toMatchObject({
      object: 'chat.completion',
      model: MODEL,
      choices: [
        { index: 0, message: { role: 'assistant', content: 'Hello there' }, finish_reason: 'stop' },
      ],
      usage: {
        prompt_tokens: 7,
        completion_tokens: 2,
        total_tokens: 9,
        prompt_tokens_details: { cached_tokens: 4 },
      },
      arcana: { task: null, version: null, adapters: [], layers: [], model_digest: MODEL_DIGEST },
    })
  })

  it('streams chunks that begin with the role and end with [DONE]', async ({ expect }) => {
    const response = await client.chat({ stream: true, stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    const { events, isDone } = await readSse(response)
    expect(isDone).toBe(true)
    expect(events).toHaveLength(5)
    expect(events[0]).toMatchObject({
      object: 'chat.completion.chunk',
      choices: [{ delta: { role: 'assistant' }, finish_reason: null }],
      usage: null,
      arcana: { task: null },
    })
    expect(events[1]).toMatchObject({ choices: [{ delta: { content: 'Hello' } }] })
    expect(events[3]).toMatchObject({
      choices: [{ delta: {}, finish_reason: 'stop' }],
      arcana: { adapters: [] },
    })
    expect(events[4]).toMatchObject({ choices: [], usage: { total_tokens: 9 } })
  })

  it('passes the sampling on with OpenAI’s defaults', async ({ expect }) => {
    await client.chat({})
    // Computed prompts are shared within the project.
    expect(runner.generateRequests[0]?.tenant).toBe(projectId)
    await client.chat({
      temperature: 0.2,
      top_p: 0.9,
      seed: -1,
      stop: 'END',
      max_completion_tokens: 5,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
      user: 'someone',
      prompt_cache_options: { mode: 'explicit' },
      store: false,
      modalities: ['text'],
      max_tokens: 5,
      n: 1,
      presence_penalty: 0,
      response_format: { type: 'text' },
      tools: null,
    })
    expect(runner.generateRequests[0]?.sampling).toEqual({ temperature: 1, top_p: 1, stop: [] })
    expect(runner.generateRequests[1]).toMatchObject({
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'ab' },
      ],
      arms: [{ adapters: [], seed: 0xffffffff }],
      sampling: { temperature: 0.2, top_p: 0.9, stop: ['END'], max_tokens: 5 },
    })
  })
})

describe('how tokens are drawn', () => {
  it('is passed on as asked, and left out where it changes nothing', async ({ expect }) => {
    const shaping = {
      top_k: 40,
      min_p: 0.05,
      presence_penalty: 0.5,
      frequency_penalty: -0.5,
      repetition_penalty: 1.1,
    }
    await client.chat({ ...shaping, logit_bias: { 7: -100, 9: 2.5 } })
    const neutral = { top_k: -1, min_p: 0, repetition_penalty: 1, logit_bias: {}, logprobs: false }
    await client.chat({ ...neutral, top_logprobs: 0 })
    expect(runner.generateRequests[0]?.sampling).toEqual({
      temperature: 1,
      top_p: 1,
      stop: [],
      ...shaping,
      logit_bias: [
        [7, -100],
        [9, 2.5],
      ],
    })
    expect(runner.generateRequests[1]?.sampling).toEqual({ temperature: 1, top_p: 1, stop: [] })
  })

  it('may be asked for several answers, each an arm with a seed of its own', async ({ expect }) => {
    runner.words = (arm) => [`seed ${arm.seed ?? 'none'}`]
    const body = await (await client.chat({ n: 3, seed: 5 })).json<ChatCompletion>()
    const seeds = runner.generateRequests[0]!.arms.map(({ seed }) => seed)
    expect(seeds[0]).toBe(5)
    expect(new Set(seeds).size).toBe(3)
    expect(body.choices.map(({ index, message }) => [index, message.content])).toEqual(
      seeds.map((seed, index) => [index, `seed ${seed ?? 'none'}`]),
    )
    // One prompt, three answers.
    expect(body.usage).toMatchObject({ prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 })

    const { events, isDone } = await readSse(await client.chat({ n: 3, seed: 5, stream: true }))
    expect(isDone).toBe(true)
    const texts = ['', '', '']
    const finished: number[] = []
    for (const chunk of events as unknown as ChatCompletionChunk[]) {
      const choice = chunk.choices[0]!
      texts[choice.index]! += choice.delta.content ?? ''
      if (choice.finish_reason !== null) finished.push(choice.index)
    }
    expect(texts).toEqual(body.choices.map(({ message }) => message.content))
    expect(finished).toEqual([0, 1, 2])
  })

  it('may be asked for log probabilities, streamed or not', async ({ expect }) => {
    const asked = { logprobs: true, top_logprobs: 2 }
    const body = await (await client.chat(asked)).json<ChatCompletion>()
    expect(runner.generateRequests[0]?.sampling.logprobs).toBe(2)
    const content = body.choices[0].logprobs?.content
    expect(content).toEqual([
      {
        token: 'Hello',
        logprob: -0.25,
        bytes: [...new TextEncoder().encode('Hello')],
        top_logprobs: [
          { token: 'alt 0', logprob: -1, bytes: [0] },
          { token: 'alt 1', logprob: -2, bytes: [1] },
        ],
      },
      expect.objectContaining({ token: ' there' }),
    ])
    const { events } = await readSse(await client.chat({ ...asked, stream: true }))
    const streamed = (events as unknown as ChatCompletionChunk[]).flatMap(
      ({ choices }) => choices[0]?.logprobs?.content ?? [],
    )
    expect(streamed).toEqual(content)
  })

  it('is refused by name where the answer is one of a task’s labels', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    for (const [field, value] of Object.entries({
      logprobs: true,
      logit_bias: { 1: 1 },
      presence_penalty: 1,
      frequency_penalty: 1,
      repetition_penalty: 2,
      response_format: { type: 'json_object' },
    })) {
      const headers = { 'x-task': 'ag-news' }
      const refused = await client.chat({ [field]: value }, headers)
      expect(refused.status).toBe(400)
      expect(await refused.json()).toMatchObject({
        error: { param: field, code: 'unsupported_parameter' },
      })
      const free = await client.chat({ [field]: value }, { ...headers, 'x-arcana-choice': 'off' })
      expect(free.status).toBe(200)
    }
  })
})

describe('a stream that waits', () => {
  it('is kept alive by comments that are no events', async ({ expect }) => {
    runner.delayMs = (event) => (event !== 'die' && event.event === 'end' ? 2500 : 0)
    const text = await (await client.chat({ stream: true })).text()
    expect(text).toContain('\n\n: keepalive\n\n')
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  })
})

const nested = (depth: number): Record<string, unknown> =>
  depth === 0 ? {} : { items: nested(depth - 1) }

describe('a response format', () => {
  const schema = { type: 'object', properties: { b: {}, a: { type: 'null' } } }

  it('goes to the runner, its schema as it stands', async ({ expect }) => {
    const format = { name: 'x', description: 'y', schema, strict: true }
    await client.chat({ response_format: { type: 'json_object' } })
    await client.chat({ response_format: { type: 'json_schema', json_schema: format } })
    await client.chat({ response_format: { type: 'json_schema', json_schema: { name: 'x' } } })
    expect(runner.generateRequests.map((request) => request.response_format)).toEqual([
      { type: 'json_object' },
      { type: 'json_schema', schema },
      { type: 'json_object' },
    ])
    expect(JSON.stringify(runner.generateRequests[1]!.response_format)).toContain('"b":{},"a":')
  })

  it('that the runner refuses is the caller’s fault, by name', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate')
        ? refuse(400, 'invalid_request', 'unserviceable', { param: 'response_format' })
        : null
    for (const stream of [false, true]) {
      const response = await client.chat({ response_format: { type: 'json_object' }, stream })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({
        error: { type: 'invalid_request_error', param: 'response_format' },
      })
    }
  })
})

describe('a request that cannot be served', () => {
  const cases: readonly [string, Record<string, unknown>, string][] = [
    ['functions by their old name', { functions: [{ name: 'f' }] }, 'functions'],
    ['a call by its old name', { function_call: 'auto' }, 'function_call'],
    ['a voice', { modalities: ['text', 'audio'] }, 'modalities'],
    ['audio', { audio: { voice: 'alloy', format: 'wav' } }, 'audio'],
    ['a prediction', { prediction: { type: 'content', content: 'x' } }, 'prediction'],
    ['a web search', { web_search_options: {} }, 'web_search_options'],
    ['storage', { store: true }, 'store'],
    ['an effort', { reasoning_effort: 'low' }, 'reasoning_effort'],
    ['a verbosity', { verbosity: 'low' }, 'verbosity'],
    ['moderation', { moderation: { model: 'x' } }, 'moderation'],
    ['two limits', { max_tokens: 3, max_completion_tokens: 4 }, 'max_tokens'],
    ['seventeen answers', { n: 17 }, 'n'],
    ['alternatives of no log probabilities', { top_logprobs: 2 }, 'top_logprobs'],
    ['21 alternatives', { logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    ['a grammar', { response_format: { type: 'grammar' } }, 'response_format.type'],
    ['no schema', { response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
    [
      'a schema without name',
      { response_format: { type: 'json_schema', json_schema: { schema: {} } } },
      'response_format.json_schema.name',
    ],
    [
      'a schema nested past any use',
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: nested(70) } } },
      'response_format.json_schema.schema',
    ],
    [
      'a schema of 70 kB',
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'x', schema: { const: 'x'.repeat(70_000) } },
        },
      },
      'response_format.json_schema.schema',
    ],
    ['a penalty past 2', { frequency_penalty: 2.5 }, 'frequency_penalty'],
    ['a repetition penalty of nought', { repetition_penalty: 0 }, 'repetition_penalty'],
    ['a min_p over 1', { min_p: 1.5 }, 'min_p'],
    ['a top_k below -1', { top_k: -2 }, 'top_k'],
    ['a logit bias past 100', { logit_bias: { 5: -101 } }, 'logit_bias.5'],
    ['a logit bias of no token', { logit_bias: { the: 1 } }, 'logit_bias.the'],
    ['a field nobody knows', { temprature: 1 }, 'temprature'],
    ['a temperature of the wrong type', { temperature: 'hot' }, 'temperature'],
    [
      'a message of no known role',
      { messages: [{ role: 'critic', content: 'x' }] },
      'messages[0].role',
    ],
    ['a message without content', { messages: [{ role: 'user' }] }, 'messages[0].content'],
    ['no messages', { messages: [] }, 'messages'],
    [
      'an image',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'messages[0].content[0].type',
    ],
    ['stream options without a stream', { stream_options: {} }, 'stream_options'],
    ['five stop strings', { stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
  ]
  it.for(cases)('with %s is refused by name', async ([, body, param], { expect }) => {
    const response = await client.chat(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { type: 'invalid_request_error', param },
    })
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('because it is not JSON answers 400', async ({ expect }) => {
    for (const body of ['{"model":', '[]', 'null', '"x"']) {
      const response = await client.call('POST', '/v1/chat/completions', body)
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error' } })
    }
  })

  it('because it is 2 MB long answers 413', async ({ expect }) => {
    const response = await client.chat({
      messages: [{ role: 'user', content: 'x'.repeat(2 * 1024 * 1024) }],
    })
    expect(response.status).toBe(413)
    expect(await response.json()).toMatchObject({ error: { code: 'request_too_large' } })
  })

  it('because the prompt is past the context answers 400', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate')
        ? refuse(400, 'context_length_exceeded', 'unserviceable')
        : null
    const response = await client.chat({})
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', param: 'messages' },
    })
  })

  it('because the model is unknown answers 404', async ({ expect }) => {
    for (const model of ['gpt-4o', `${MODEL}:nobody`]) {
      const response = await client.chat({ model })
      expect(response.status).toBe(404)
      expect(await response.json()).toMatchObject({
        error: { code: 'model_not_found', param: 'model' },
      })
    }
  })

  it('because no runner is up answers 503, and serves again when one is', async ({ expect }) => {
    runner.isDown = true
    const down = await client.chat({})
    expect(down.status).toBe(503)
    expect(down.headers.get('retry-after')).toBe('1')
    expect(await down.json()).toMatchObject({ error: { code: 'no_runner', type: 'server_error' } })
    runner.isDown = false
    await vi.waitFor(async () => {
      expect((await client.chat({})).status).toBe(200)
    }, 10_000)
  })
})

describe('a task', () => {
  it('is applied, framed, restricted to its labels, and proven', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'ag-news')
    for (const [body, headers] of [
      [{}, { 'x-task': 'ag-news' }],
      [{ model: `${MODEL}:ag-news` }, {}],
      [{ model: `${MODEL}:ag-news` }, { 'x-task': ' ag-news ' }],
    ] as const) {
      const response = await client.chat(body, headers)
      expect(response.status).toBe(200)
      expect(response.headers.get('x-arcana-task')).toBe('ag-news')
      expect(response.headers.get('x-arcana-version')).toBe('1')
      expect(response.headers.get('x-arcana-adapter')).toBe(digest)
      expect(response.headers.get('x-arcana-warning')).toBeNull()
      expect(await response.json()).toMatchObject({
        model: `${MODEL}:ag-news`,
        choices: [{ message: { content: 'World' } }],
        arcana: {
          task: 'ag-news',
          version: 1,
          adapters: [{ digest, weight: 1, task: 'ag-news', version: 1 }],
          scope: 'generated',
          layers: [2],
          runner: 'runner-double',
          labels: [
            { label: 'World', probability: 1 },
            { label: 'Sports', probability: 0 },
          ],
        },
      })
    }
    expect(runner.generateRequests.at(-1)).toMatchObject({
      messages: [
        { role: 'system', content: 'Answer with the category only.' },
        { role: 'user', content: 'Hi' },
      ],
      sampling: { temperature: 0 },
      choice: { labels: ['World', 'Sports'] },
    })
    // Pushed once, when it was first missing.
    expect(runner.callsTo('PUT /v1/adapters')).toBe(1)
  })

  it('answers freely with x-arcana-choice: off', async ({ expect }) => {
    await publishTask(projectId, 'ag-news', { bias: [0.5, -0.5] })
    const response = await client.chat({}, { 'x-task': 'ag-news', 'x-arcana-choice': 'off' })
    const body = await response.json<{ arcana: object }>()
    expect(body).toMatchObject({ choices: [{ message: { content: 'Hello there' } }] })
    expect(body.arcana).not.toHaveProperty('labels')
    expect(runner.generateRequests.at(-1)).not.toHaveProperty('choice')
    expect(runner.generateRequests.at(-1)?.arms[0]).not.toHaveProperty('bias')
    const wrong = await client.chat({}, { 'x-task': 'ag-news', 'x-arcana-choice': 'no' })
    expect(wrong.status).toBe(400)
  })

  it('says so when the caller’s system message replaces its frame', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    const messages = [
      { role: 'system', content: 'Mine.' },
      { role: 'user', content: 'Hi' },
    ]
    const response = await client.chat({ messages }, { 'x-task': 'ag-news' })
    expect(response.headers.get('x-arcana-warning')).toBe('frame-replaced')
    expect(runner.generateRequests.at(-1)?.messages).toEqual(messages)
  })

  it('may stand after the last user text', async ({ expect }) => {
    await publishTask(projectId, 'after', { position: 'after' })
    await client.chat(
      {
        messages: [
          { role: 'user', content: 'one' },
          { role: 'assistant', content: 'two' },
          { role: 'user', content: 'three' },
        ],
      },
      { 'x-task': 'after' },
    )
    expect(runner.generateRequests.at(-1)?.messages).toEqual([
      { role: 'user', content: 'one' },
      { role: 'assistant', content: 'two' },
      { role: 'user', content: 'three\n\nAnswer with the category only.' },
    ])
  })

  it('named twice and differently is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'b')
    const response = await client.chat({ model: `${MODEL}:a` }, { 'x-task': 'b' })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'conflicting_selection' } })
  })

  it('may be a weighted sum of versions', async ({ expect }) => {
    const a = await publishTask(projectId, 'a', { bias: [1, 0], layer: 1 })
    await publishTask(projectId, 'b', { angle: 0.1, layer: 2 })
    const b2 = await publishTask(projectId, 'b', {
      angle: 0.2,
      layer: 3,
      labels: ['Sports', 'World'],
      bias: [2, 4],
    })
    await publishTask(projectId, 'c', { labels: null, angle: 0.3, layer: 1 })
    const response = await client.chat({}, { 'x-task': 'a*0.5 + b@2 - c*0.25' })
    expect(response.status).toBe(200)
    expect(response.headers.get('x-arcana-task')).toBe('a*0.5+b@2+c*-0.25')
    expect(response.headers.get('x-arcana-version')).toBe('1,2,1')
    expect(await response.json()).toMatchObject({
      arcana: {
        version: null,
        layers: [1, 3],
        adapters: [
          { digest: a.digest, weight: 0.5 },
          { digest: b2.digest, weight: 1 },
          { weight: -0.25, task: 'c' },
        ],
      },
    })
    // Bias of b in a's order: World 4, Sports 2.
    expect(runner.generateRequests.at(-1)?.arms[0]?.bias).toEqual([4.5, 2])
  })

  it('in a sum that does not go together is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    await publishTask(projectId, 'other-labels', { labels: ['x', 'y'] })
    await publishTask(projectId, 'other-scope', { scope: 'all' })
    for (const [selection, code] of [
      ['a + other-labels', 'labels_differ'],
      ['a + other-scope', 'scopes_differ'],
    ]) {
      const response = await client.chat({}, { 'x-task': selection! })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { code, param: 'x-task' } })
    }
  })

  it('that is unknown, malformed or empty is refused', async ({ expect }) => {
    await publishTask(projectId, 'a')
    for (const [selection, status] of [
      ['nobody', 404],
      ['a@2', 404],
      ['A', 400],
      ['a*', 400],
      ['a*65', 400],
      ['a b', 400],
      ['+a', 400],
      ['a@0', 400],
      ['', 400],
    ] as const) {
      const response = await client.chat({}, { 'x-task': selection })
      expect(response.status, selection).toBe(status)
    }
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('of another base model is refused with 400', async ({ expect }) => {
    await publishTask(projectId, 'old', { modelDigest: 'f'.repeat(64) })
    await publishTask(projectId, 'foreign', { model: 'llama' })
    for (const name of ['old', 'foreign']) {
      const response = await client.chat({}, { 'x-task': name })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({ error: { code: 'adapter_wrong_model' } })
    }
  })

  it('of another project does not exist', async ({ expect }) => {
    const other = await makeProject()
    await publishTask(other.projectId, 'theirs')
    const response = await client.chat({}, { 'x-task': 'theirs' })
    expect(response.status).toBe(404)
  })
})

describe('the proof', () => {
  const wrongs = {
    'no adapter': { adapters: [], layers: [] },
    'another adapter': { adapters: [{ digest: 'c'.repeat(64), weight: 1 }] },
    'another weight': null,
    'another scope': { scope: 'all' as const },
    'another model': { model_digest: 'c'.repeat(64) },
    'fewer layers': { layers: [] },
    'more layers': { layers: [1, 2] },
    'a bias nobody asked for': { bias_digest: 'c'.repeat(64) },
  }
  it.for(Object.entries(wrongs))(
    'fails with 502 where the runner applied %s, streamed or not',
    async ([, change], { expect }) => {
      await publishTask(projectId, 'a')
      runner.editEvents = (events) =>
        events.map((event) =>
          event.event === 'accepted'
            ? {
                ...event,
                applied: {
                  ...event.applied,
                  ...(change ?? {
                    adapters: event.applied.adapters.map((a) => ({ ...a, weight: 0.99 })),
                  }),
                },
              }
            : event,
        )
      for (const stream of [false, true]) {
        const response = await client.chat({ stream }, { 'x-task': 'a' })
        expect(response.status).toBe(502)
        expect(await response.json()).toMatchObject({ error: { code: 'proof_mismatch' } })
        expect(response.headers.get('x-arcana-task')).toBeNull()
      }
    },
  )

  it('is checked again at the end, in band where the answer has begun', async ({ expect }) => {
    await publishTask(projectId, 'a')
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'end'
          ? { ...event, applied: { ...event.applied, adapters: [], layers: [] } }
          : event,
      )
    const whole = await client.chat({}, { 'x-task': 'a' })
    expect(whole.status).toBe(502)
    const streamed = await client.chat({ stream: true }, { 'x-task': 'a' })
    expect(streamed.status).toBe(200)
    const { events, isDone } = await readSse(streamed)
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'proof_mismatch' } })
  })
})

describe('a runner that fails', () => {
  it('mid-answer gives 502, or an error without [DONE] in a stream', async ({ expect }) => {
    runner.editEvents = (events) => [...events.slice(0, 2), 'die']
    const whole = await client.chat({})
    expect(whole.status).toBe(502)
    expect(await whole.json()).toMatchObject({ error: { code: 'runner_died' } })
    await vi.waitFor(async () => {
      const { events, isDone } = await readSse(await client.chat({ stream: true }))
      expect(isDone).toBe(false)
      expect(events.at(-1)).toMatchObject({ error: { code: 'runner_died' } })
    }, 10_000)
  })

  it('by closing after its last end but before its terminal frame is an error', async ({
    expect,
  }) => {
    runner.editEvents = (events) => events.filter((event) => event.event !== 'done')
    const { events, isDone } = await readSse(await client.chat({ stream: true }))
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'runner_died' } })
  })

  it('with lines that are not of the protocol gives 502', async ({ expect }) => {
    for (const text of [
      'not json\n',
      '{"event":"surprise"}\n',
      '{"event":"token","arm":0}\n',
      '',
    ]) {
      runner.intercept = (request) =>
        request.url.endsWith('/v1/generate') ? new Response(text) : null
      await vi.waitFor(async () => {
        const response = await client.chat({})
        expect(response.status).toBe(502)
      }, 10_000)
    }
  })

  it('reading events cut anywhere, even inside a character, joins them', async ({ expect }) => {
    runner.words = () => ['Grüße', ' 世界']
    for (const isCutFine of [false, true]) {
      runner.isCutFine = isCutFine
      expect(await (await client.chat({})).json()).toMatchObject({
        choices: [{ message: { content: 'Grüße 世界' } }],
      })
    }
  })

  it('at capacity gives 503 with Retry-After', async ({ expect }) => {
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate') ? refuse(503, 'over_capacity', 'over_capacity') : null
    const response = await client.chat({})
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toMatchObject({ error: { code: 'over_capacity' } })
  })

  it('to keep an adapter it was just given is asked only once more', async ({ expect }) => {
    await publishTask(projectId, 'a')
    runner.intercept = (request) =>
      request.url.endsWith('/v1/generate') ? refuse(409, 'adapter_not_resident', 'retryable') : null
    const response = await client.chat({}, { 'x-task': 'a' })
    expect(response.status).toBe(502)
    expect(runner.callsTo('PUT /v1/adapters')).toBe(1)
    expect(runner.callsTo('POST /v1/generate')).toBe(2)
  })
})

describe('a client that goes away', () => {
  it('during a stream frees the runner’s row', async ({ expect }) => {
    runner.delayMs = () => 20
    runner.words = () => Array.from({ length: 500 }, () => 'x ')
    const response = await client.chat({ stream: true })
    const reader = response.body!.getReader()
    await reader.read()
    await reader.cancel()
    await vi.waitFor(() => {
      expect(runner.numAborted).toBeGreaterThan(0)
    }, 5_000)
  })
})

describe('GET /v1/models', () => {
  it('lists the base and one entry a task', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    await publishTask(projectId, 'ag-news')
    const list = await (await client.call('GET', '/v1/models')).json()
    expect(list).toMatchObject({
      object: 'list',
      data: [
        { id: MODEL, object: 'model' },
        { id: `${MODEL}:ag-news`, arcana: { live_version: 2 } },
      ],
    })
    const one = await client.call('GET', `/v1/models/${MODEL}:ag-news`)
    expect(await one.json()).toMatchObject({ id: `${MODEL}:ag-news` })
    const none = await client.call('GET', '/v1/models/gpt-4o')
    expect(none.status).toBe(404)
    expect(await none.json()).toMatchObject({ error: { code: 'model_not_found' } })
  })
})
