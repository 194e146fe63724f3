import { describe, it, vi } from 'vitest'
import { client, runner, useFreshProject } from '../fresh-project.ts'
import { MODEL } from '../harness.ts'
import { refuse } from '../runner-double.ts'

useFreshProject()

const nested = (depth: number): Record<string, unknown> =>
  depth === 0 ? {} : { items: nested(depth - 1) }

describe('a request that cannot be served', () => {
  const cases: readonly [string, Record<string, unknown>, string][] = [
    ['functions by their old name', { functions: [{ name: 'f' }] }, 'functions'],
    ['a call by its old name', { function_call: 'auto' }, 'function_call'],
    ['a voice', { modalities: ['text', 'audio'] }, 'modalities'],
    ['audio', { audio: { voice: 'alloy', format: 'wav' } }, 'audio'],
    ['a prediction', { prediction: { type: 'content', content: 'x' } }, 'prediction'],
    ['a web search', { web_search_options: {} }, 'web_search_options'],
    ['storage', { store: true }, 'store'],
    ['an effort that is none', { reasoning_effort: 'heroic' }, 'reasoning_effort'],
    ['a verbosity that is none', { verbosity: 3 }, 'verbosity'],
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
