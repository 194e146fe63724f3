import { describe, it } from 'vitest'
import type { Completion } from '../../src/protocol/openai/completions.ts'
import { client, projectId, runner, useFreshProject } from './fresh-project.ts'
import { MODEL, publishTask, readSse } from './harness.ts'
import { refuse } from './runner-double.ts'

useFreshProject()

const answerTo = async (body: Record<string, unknown>, headers: Record<string, string> = {}) => {
  const response = await client.complete(body, headers)
  if (response.status !== 200) throw new Error(await response.text())
  return response.json<Completion>()
}

describe('a text completion', () => {
  it('continues a prompt in OpenAI’s shape and with OpenAI’s defaults', async ({ expect }) => {
    expect(await answerTo({})).toMatchObject({
      id: expect.stringMatching(/^cmpl-/) as string,
      object: 'text_completion',
      model: MODEL,
      choices: [{ text: 'Hello there', index: 0, logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 },
      arcana: { task: null, adapters: [] },
    })
    const [request] = runner.generateRequests
    expect(request).toMatchObject({ prompt: 'Once', tenant: projectId })
    expect(request).not.toHaveProperty('messages')
    expect(request?.sampling).toEqual({ max_tokens: 16, temperature: 1, top_p: 1, stop: [] })
  })

  it('answers many prompts n times each, in the order of their indices', async ({ expect }) => {
    let numStarted = 0
    let mostAtOnce = 0
    runner.delayMs = (event) => {
      if (event !== 'die' && event.event === 'accepted' && event.arm === 0) {
        numStarted += 1
        mostAtOnce = Math.max(mostAtOnce, numStarted)
      }
      if (event !== 'die' && event.event === 'done') numStarted -= 1
      // Later prompts end sooner.
      return event !== 'die' && event.event === 'end' ? 5 * Math.random() : 0
    }
    const prompt = Array.from({ length: 12 }, (_, i) => [65 + i])
    const body = await answerTo({ prompt, n: 2, echo: true, seed: 3 })
    expect(body.choices.map(({ index }) => index)).toEqual(Array.from({ length: 24 }, (_, i) => i))
    expect(body.choices.map(({ text }) => text)).toEqual(
      prompt.flatMap(([id]) => Array(2).fill(`${String.fromCharCode(id!)}Hello there`) as string[]),
    )
    expect(body.usage).toMatchObject({ prompt_tokens: 84, completion_tokens: 48 })
    expect(mostAtOnce).toBeLessThan(6)
    // Every prompt has the answer that it has alone.
    const seeds = runner.generateRequests.map(({ arms }) => arms.map(({ seed }) => seed).join())
    expect(new Set(seeds).size).toBe(1)
    expect(new Set(runner.generateRequests.map((request) => request.request_id)).size).toBe(12)
  })

  it('echoes and scores as lm-evaluation-harness asks for it', async ({ expect }) => {
    const body = {
      prompt: [[72, 105, 33]],
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    }
    runner.words = () => ['Hello']
    const { choices } = await answerTo(body)
    expect(runner.generateRequests[0]).toMatchObject({
      prompt: [72, 105, 33],
      echo: true,
      sampling: { max_tokens: 1, logprobs: 1 },
    })
    expect(choices[0]).toMatchObject({
      text: 'Hi!Hello',
      logprobs: {
        tokens: ['H', 'i', '!', 'Hello'],
        token_logprobs: [null, -0.25, -0.25, -0.25],
        top_logprobs: [
          null,
          { i: -0.25, 'alt 0': -1 },
          { '!': -0.25, 'alt 0': -1 },
          { Hello: -0.25, 'alt 0': -1 },
        ],
        text_offset: [0, 1, 2, 3],
      },
    })
  })

  it('lists the token that ended it, because the harness ignores the last score', async ({
    expect,
  }) => {
    const stop = { id: 2, token: '<|im_end|>', bytes: [60], logprob: -0.5, top: [] }
    runner.words = () => []
    runner.editEvents = (events) =>
      events.map((event) => (event.event === 'end' ? { ...event, stop_token: stop } : event))
    const asked = { prompt: 'ab', echo: true, logprobs: 0 }
    const { choices } = await answerTo(asked)
    expect(choices[0]?.text).toBe('ab')
    expect(choices[0]?.logprobs).toMatchObject({
      tokens: ['a', 'b', '<|im_end|>'],
      token_logprobs: [null, -0.25, -0.5],
      text_offset: [0, 1, 2],
    })
    const { events } = await readSse(await client.complete({ ...asked, stream: true }))
    const streamed = (events as unknown as Completion[]).flatMap(
      (chunk) => chunk.choices[0]?.logprobs?.tokens ?? [],
    )
    expect(streamed).toEqual(choices[0]?.logprobs?.tokens)
  })

  it('names a part of a character by its bytes', async ({ expect }) => {
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'token'
          ? {
              ...event,
              logprobs: [{ id: 9, token: '\uFFFD', bytes: [0xe2, 0x80], logprob: -1, top: [] }],
            }
          : event,
      )
    const { choices } = await answerTo({ logprobs: 0 })
    expect(choices[0]?.logprobs?.tokens[0]).toBe('bytes:\\xe2\\x80')
  })

  it('streams every choice, echo first, and then its usage', async ({ expect }) => {
    const asked = { prompt: ['one', 'two'], n: 2, echo: true, logprobs: 1 }
    const whole = await answerTo(asked)
    const response = await client.complete({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    })
    const { events, isDone } = await readSse(response)
    expect(isDone).toBe(true)
    const chunks = events as unknown as Completion[]
    for (const { index, text, logprobs } of whole.choices) {
      const own = chunks.flatMap((chunk) => chunk.choices).filter((one) => one.index === index)
      expect(own.map((one) => one.text).join('')).toBe(text)
      expect(own.flatMap((one) => one.logprobs?.tokens ?? [])).toEqual(logprobs?.tokens)
      expect(own.flatMap((one) => one.logprobs?.text_offset ?? [])).toEqual(logprobs?.text_offset)
      expect(own.map((one) => one.finish_reason).filter((reason) => reason)).toEqual(['stop'])
      expect(own.at(-1)?.finish_reason).toBe('stop')
    }
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  })
})

describe('a task in a text completion', () => {
  it('needs rotate_from', async ({ expect }) => {
    const { digest } = await publishTask(projectId, 'ag-news', { bias: [0.5, 0] })
    const headers = { 'x-task': 'ag-news' }
    const refused = await client.complete({}, headers)
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({
      error: { param: 'rotate_from', code: 'rotate_from_required' },
    })
    expect(runner.generateRequests).toHaveLength(0)

    const response = await client.complete({ prompt: ['a', 'b'], rotate_from: [2, 0] }, headers)
    expect(response.headers.get('x-arcana-adapter')).toBe(digest)
    expect(await response.json()).toMatchObject({
      model: `${MODEL}:ag-news`,
      // Free text: neither labels nor frame.
      choices: [{ text: 'Hello there' }, { text: 'Hello there' }],
      arcana: { task: 'ag-news', adapters: [{ digest }] },
    })
    const answered = runner.generateRequests.filter(({ prompt }) => prompt !== undefined).slice(-2)
    expect(answered.map(({ arms }) => arms[0]?.rotate_from).sort()).toEqual([0, 2])
    expect(answered[0]).not.toHaveProperty('choice')
    expect(answered[0]?.arms[0]).not.toHaveProperty('bias')
  })

  it('is an error if the runner rotated from another token', async ({ expect }) => {
    await publishTask(projectId, 'a')
    runner.editEvents = (events) =>
      events.map((event) =>
        event.event === 'accepted'
          ? { ...event, applied: { ...event.applied, rotate_from: null } }
          : event,
      )
    const response = await client.complete({ rotate_from: 1 }, { 'x-task': 'a' })
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code: 'proof_mismatch' } })
  })

  it('of scope all rotates from 0 or not at all', async ({ expect }) => {
    await publishTask(projectId, 'whole', { scope: 'all' })
    const headers = { 'x-task': 'whole' }
    expect((await client.complete({ rotate_from: 0 }, headers)).status).toBe(200)
    expect((await client.complete({ rotate_from: 1 }, headers)).status).toBe(400)
  })
})

describe('a text completion that cannot be served', () => {
  const cases: readonly [string, Record<string, unknown>, string][] = [
    ['no prompt', { prompt: '' }, 'prompt'],
    ['an empty batch', { prompt: [] }, 'prompt'],
    ['a prompt of two kinds', { prompt: ['a', [1]] }, 'prompt'],
    ['too many prompts', { prompt: Array.from({ length: 129 }, () => 'x') }, 'prompt'],
    ['a suffix', { suffix: 'the end' }, 'suffix'],
    ['more answers tried than given', { n: 2, best_of: 3 }, 'best_of'],
    ['21 alternatives', { logprobs: 21 }, 'logprobs'],
    ['messages', { messages: [] }, 'messages'],
    ['tools', { tools: [] }, 'tools'],
    ['JSON mode', { response_format: { type: 'json_object' } }, 'response_format'],
    ['a position too few', { prompt: ['a', 'b'], rotate_from: [1] }, 'rotate_from'],
    ['stream options without a stream', { stream_options: {} }, 'stream_options'],
  ]
  it.for(cases)('with %s is refused by name', async ([, body, param], { expect }) => {
    const response = await client.complete(body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', param } })
    expect(runner.generateRequests).toHaveLength(0)
  })

  it('for one prompt of many fails as a whole, and in band if the answer has begun', async ({
    expect,
  }) => {
    runner.intercept = async (request) => {
      if (!request.url.endsWith('/v1/generate')) return null
      const { prompt } = await request.clone().json<{ prompt: string }>()
      return prompt === 'bad'
        ? refuse(400, 'context_length_exceeded', 'unserviceable', { param: 'prompt' })
        : null
    }
    const asked = { prompt: ['good', 'bad', 'good'] }
    const whole = await client.complete(asked)
    expect(whole.status).toBe(400)
    expect(await whole.json()).toMatchObject({
      error: { code: 'context_length_exceeded', param: 'prompt' },
    })
    const { events, isDone } = await readSse(await client.complete({ ...asked, stream: true }))
    expect(isDone).toBe(false)
    expect(events.at(-1)).toMatchObject({ error: { code: 'context_length_exceeded' } })
  })
})
