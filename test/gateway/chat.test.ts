import { describe, it, vi } from 'vitest'
import type {
  ChatCompletion,
  ChatCompletionChunk,
} from '../../src/protocol/openai/chat-completions.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask, readSse } from './harness.ts'
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

  it('sends the runner sampling parameters with OpenAI’s defaults', async ({ expect }) => {
    await client.chat({})
    // The tenant of the prefix cache is the project.
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

describe('a sampling parameter', () => {
  it('goes to the runner, or is omitted if it changes nothing', async ({ expect }) => {
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

describe('the time that the gateway took', () => {
  it('leaves out its waits for the runner', async ({ expect }) => {
    runner.delayMs = () => 100
    const startedAtMs = Date.now()
    const response = await client.chat({})
    await response.text()
    const elapsedMs = Date.now() - startedAtMs
    const ownMs = Number(response.headers.get('x-arcana-gateway-ms'))
    // Five events and as many waits, each of which may be a millisecond short.
    expect(ownMs).toBeLessThanOrEqual(elapsedMs - 5 * 99)
    expect(ownMs).toBeGreaterThanOrEqual(0)
  })

  it('is there on errors and on other routes', async ({ expect }) => {
    const refused = await client.chat({ model: 'no-such-model' })
    expect(refused.status).toBe(404)
    for (const response of [refused, await client.call('GET', '/v1/models')]) {
      expect(response.headers.get('x-arcana-gateway-ms')).toMatch(/^\d+$/)
    }
  })
})

describe('a stream that waits', () => {
  it('is kept alive by comments', async ({ expect }) => {
    runner.delayMs = (event) => (event !== 'die' && event.event === 'end' ? 2500 : 0)
    const text = await (await client.chat({ stream: true })).text()
    expect(text).toContain('\n\n: keepalive\n\n')
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  })
})

describe('a response format', () => {
  const schema = { type: 'object', properties: { b: {}, a: { type: 'null' } } }

  it('goes to the runner with its schema unchanged', async ({ expect }) => {
    const format = { name: 'x', description: 'y', schema, strict: true }
    await client.chat({ response_format: { type: 'json_object' } })
    await client.chat({ response_format: { type: 'json_schema', json_schema: format } })
    await client.chat({ response_format: { type: 'json_schema', json_schema: { name: 'x' } } })
    expect(runner.generateRequests.map((request) => request.response_format)).toEqual([
      { type: 'json_object' },
      { type: 'json_schema', schema, strict: true },
      { type: 'json_object' },
    ])
    expect(JSON.stringify(runner.generateRequests[1]!.response_format)).toContain('"b":{},"a":')
  })

  it('that is enforced only in part names the rest in a header', async ({ expect }) => {
    const json_schema = { name: 'x', schema: { type: 'object' } }
    const body = { response_format: { type: 'json_schema', json_schema } }
    const whole = await client.chat(body)
    expect(whole.headers.get('x-arcana-warning')).toBeNull()
    expect(whole.headers.get('x-arcana-not-held')).toBeNull()
    const hints = ['#/properties/größe, \ud800\n/pattern', '#/uniqueItems']
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'accepted' ? { ...event, schema_hints: hints } : event,
      )
    for (const stream of [false, true]) {
      const response = await client.chat({ ...body, stream })
      expect(response.status).toBe(200)
      expect(response.headers.get('x-arcana-warning')).toBe('schema-not-held')
      expect(response.headers.get('x-arcana-not-held')).toBe(
        '#/properties/gr%C3%B6%C3%9Fe%2C%20%EF%BF%BD%0A/pattern, #/uniqueItems',
      )
      await response.text()
    }
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

describe('a client that disconnects', () => {
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

describe('a model that is a task', () => {
  it('is found by a version or a sum, as chats find it', async ({ expect }) => {
    const first = await publishTask(projectId, 'ag-news')
    await publishTask(projectId, 'ag-news')
    await publishTask(projectId, 'other')
    const found = async (selection: string) => {
      const path = `/v1/models/${encodeURIComponent(`${MODEL}:${selection}`)}`
      const response = await client.call('GET', path)
      const chat = await client.chat({ model: `${MODEL}:${selection}` })
      expect(response.status).toBe(chat.status)
      return response.json<object>()
    }
    expect(await found(`ag-news@${first.number}`)).toMatchObject({
      id: `${MODEL}:ag-news@${first.number}`,
      object: 'model',
      owned_by: projectId,
      arcana: { task: 'ag-news@1', version: 1, live_version: 2, is_corrupt: false },
    })
    expect(await found('ag-news*0.5 + other@1')).toMatchObject({
      id: `${MODEL}:ag-news*0.5+other@1`,
      arcana: { version: null, live_version: null },
    })
    for (const selection of ['ag-news@9', 'nobody@1', 'nobody']) {
      expect(await found(selection)).toMatchObject({ error: { code: 'model_not_found' } })
    }
    expect(await found('Ag News')).toMatchObject({ error: { param: 'model' } })
  })

  it('is deleted with all its versions', async ({ expect }) => {
    await publishTask(projectId, 'ag-news')
    const id = `${MODEL}:ag-news`
    const remove = (model: string) =>
      client.call('DELETE', `/v1/models/${encodeURIComponent(model)}`)
    for (const kept of [MODEL, `${id}@1`, `${id}*0.5`]) {
      const refused = await remove(kept)
      expect(refused.status).toBe(400)
      expect(await refused.json()).toMatchObject({ error: { param: 'model' } })
    }
    expect((await client.chat({ model: id })).status).toBe(200)
    const deleted = await remove(id)
    expect(deleted.status).toBe(200)
    expect(await deleted.json()).toEqual({ id, object: 'model', deleted: true })
    for (const gone of [await remove(id), await client.chat({ model: `${id}@1` })]) {
      expect(gone.status).toBe(404)
      expect(await gone.json()).toMatchObject({ error: { code: 'model_not_found' } })
    }
    expect((await client.call('GET', '/v1/tasks/ag-news')).status).toBe(404)
    expect((await remove('gpt-4o')).status).toBe(404)
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
