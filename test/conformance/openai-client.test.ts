/** The official OpenAI client through the real gateway and the real model, all on this machine. */
import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, describe, it, vi } from 'vitest'
import { startStack, type Stack } from '../fixtures/stack.ts'
import { failure } from './failure.ts'

const MODEL = 'smollm2-135m-instruct'
const DIGEST = /^[0-9a-f]{64}$/

/** Written for this test. */
const LINES = [
  ['The striker scored twice in the final minutes.', 'Sports'],
  ['The keeper saved a penalty and the cup was theirs.', 'Sports'],
  ['She broke the national record in the 400 metres.', 'Sports'],
  ['Rain stopped play before the last over was bowled.', 'Sports'],
  ['Shares fell after the bank cut its profit forecast.', 'Business'],
  ['The airline will buy forty planes and borrow to pay.', 'Business'],
  ['Retail sales rose for the third month in a row.', 'Business'],
  ['The carmaker recalled its bonds at a premium.', 'Business'],
] as const
const asJsonl = (lines: readonly (readonly [string, string])[]) =>
  lines.map(([input, label]) => JSON.stringify({ input, label })).join('\n')

let stack: Stack
let openai: OpenAI

beforeAll(async () => {
  stack = await startStack()
  openai = new OpenAI({ baseURL: stack.baseUrl, apiKey: stack.apiKey, maxRetries: 0 })
})
afterAll(async () => {
  // Absent if the start failed; that error is the one to show.
  await (stack as Stack | undefined)?.stop()
})

type Arcana = {
  task: string | null
  version: number | null
  adapters: { digest: string; weight: number }[]
  layers: number[]
  build_digest: string
  labels?: { label: string; probability: number }[]
}
const arcanaOf = (answer: unknown) => (answer as { arcana: Arcana }).arcana

// OpenAI calls these deprecated; nearly every client still sends them.
const limitedTo = (max_tokens: number) => ({ max_tokens })
const seededWith = (seed: number) => ({ seed })

const ask = (content: string): OpenAI.Chat.ChatCompletionMessageParam[] => [
  { role: 'user', content },
]

describe('chat completions of the base model', () => {
  it('answer whole', async ({ expect }) => {
    const answer = await openai.chat.completions.create({
      model: MODEL,
      messages: ask('Say hello.'),
      temperature: 0,
      max_completion_tokens: 12,
    })
    expect(answer.object).toBe('chat.completion')
    expect(answer.choices[0]?.message.content).not.toBe('')
    expect(answer.usage?.total_tokens).toBe(
      answer.usage!.prompt_tokens + answer.usage!.completion_tokens,
    )
    expect(arcanaOf(answer)).toMatchObject({ task: null, adapters: [], layers: [] })
    expect(arcanaOf(answer).build_digest).toMatch(DIGEST)
    expect(answer._request_id).toMatch(/^req_/)
  })

  it('give the same answer as a stream, with usage at the end', async ({ expect }) => {
    const body = {
      model: MODEL,
      messages: ask('Name three colours.'),
      temperature: 0,
      max_completion_tokens: 24,
    } as const
    const whole = await openai.chat.completions.create(body)
    const stream = await openai.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    })
    let text = ''
    let usage: OpenAI.CompletionUsage | null | undefined
    let finish: string | null | undefined
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      finish = chunk.choices[0]?.finish_reason ?? finish
      usage = chunk.usage ?? usage
    }
    expect(text).toBe(whole.choices[0]?.message.content)
    expect(finish).toBe(whole.choices[0]?.finish_reason)
    // The second time, the prompt is in the prefix cache.
    const { prompt_tokens_details: details, ...counts } = usage!
    const { prompt_tokens_details: wholeDetails, ...wholeCounts } = whole.usage!
    expect(counts).toEqual(wholeCounts)
    expect([wholeDetails?.cached_tokens, details?.cached_tokens]).toEqual([
      0,
      counts.prompt_tokens - 1,
    ])
  })

  it('work through the client’s own stream helper', async ({ expect }) => {
    const final = await openai.chat.completions
      .stream({ model: MODEL, messages: ask('Hi'), temperature: 0, max_completion_tokens: 8 })
      .finalChatCompletion()
    expect(final.choices[0]?.message.role).toBe('assistant')
    expect(final.choices[0]?.message.content).not.toBe('')
  })

  it('follow the seed, the stop string and the token limit', async ({ expect }) => {
    const sample = async (seed: number) => {
      const answer = await openai.chat.completions.create({
        model: MODEL,
        messages: ask('Tell me a story.'),
        temperature: 1,
        ...limitedTo(20),
        ...seededWith(seed),
      })
      expect(answer.usage?.completion_tokens).toBeLessThanOrEqual(20)
      return answer.choices[0]?.message.content
    }
    expect(await sample(1)).toBe(await sample(1))
    expect(await sample(1)).not.toBe(await sample(2))
    const stopped = await openai.chat.completions.create({
      model: MODEL,
      messages: ask('Count: one, two, three, four, five.'),
      temperature: 0,
      ...limitedTo(60),
      stop: [' '],
    })
    expect(stopped.choices[0]?.message.content).not.toContain(' ')
    expect(stopped.choices[0]?.finish_reason).toBe('stop')
  })

  it('give several answers, each with its log probabilities, streamed or not', async ({
    expect,
  }) => {
    const body = {
      model: MODEL,
      messages: ask('Tell me a story.'),
      max_completion_tokens: 10,
      n: 3,
      logprobs: true,
      top_logprobs: 2,
      ...seededWith(3),
    } as const
    const whole = await openai.chat.completions.create(body)
    expect(whole.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(new Set(whole.choices.map(({ message }) => message.content)).size).toBe(3)
    for (const { message, logprobs } of whole.choices) {
      const content = logprobs!.content!
      expect(content.map(({ token }) => token).join('')).toBe(message.content)
      for (const { logprob, top_logprobs: top } of content) {
        expect(logprob).toBeLessThanOrEqual(top[0]!.logprob)
        expect(top).toHaveLength(2)
      }
    }
    const single = await openai.chat.completions.create({ ...body, n: 1 })
    expect(single.choices[0]!.message.content).toBe(whole.choices[0]!.message.content)

    const final = await openai.chat.completions.stream(body).finalChatCompletion()
    expect(final.choices.map(({ message }) => message.content)).toEqual(
      whole.choices.map(({ message }) => message.content),
    )
    expect(final.choices.map(({ logprobs }) => logprobs?.content)).toEqual(
      whole.choices.map(({ logprobs }) => logprobs?.content),
    )
  })

  it('follow a logit bias and the fields of other servers', async ({ expect }) => {
    const body = {
      model: MODEL,
      messages: ask('Say hello.'),
      temperature: 0,
      max_completion_tokens: 4,
    } as const
    const greedy = (await openai.chat.completions.create(body)).choices[0]!.message.content
    const extra = { top_k: 1, min_p: 0.5, repetition_penalty: 1 } as object
    const bound = await openai.chat.completions.create({ ...body, ...extra, temperature: 1.5 })
    expect(bound.choices[0]!.message.content).toBe(greedy)
    // 17 is one token of this vocabulary; nothing else can win against +100.
    const forced = await openai.chat.completions.create({ ...body, logit_bias: { 17: 100 } })
    const once = forced.choices[0]!.message.content!.slice(0, 1)
    expect(forced.choices[0]!.message.content).toBe(once.repeat(4))
    const penalised = await openai.chat.completions.create({
      ...body,
      max_completion_tokens: 24,
      frequency_penalty: 2,
      presence_penalty: 2,
    })
    expect(penalised.choices[0]!.message.content).not.toBe('')
  })

  it('free their rows when their clients disconnect', async ({ expect }) => {
    const NUM_LONG = 16
    const controller = new AbortController()
    const long = Array.from({ length: NUM_LONG }, (_, i) =>
      openai.chat.completions.create(
        {
          model: MODEL,
          messages: ask(`Write a very long story, number ${i}.`),
          temperature: 1,
          ...seededWith(i),
          max_completion_tokens: 1900,
          // One in one piece is noticed gone only when its first byte is sent, after some seconds.
          stream: i % 2 === 0,
        },
        { signal: controller.signal },
      ),
    )
    const settled = Promise.allSettled(long)
    // Each of the streams has said something, so that the rows between them are decoding too.
    for (const answer of long.filter((_, i) => i % 2 === 0)) {
      await ((await answer) as AsyncIterable<unknown>)[Symbol.asyncIterator]().next()
    }
    controller.abort()
    await settled
    const startedMs = performance.now()
    await openai.chat.completions.create({
      model: MODEL,
      messages: ask('Hi'),
      temperature: 0,
      max_completion_tokens: 4,
    })
    // With sixteen rows still decoding 1900 tokens each, it would stand in line for a minute.
    expect(performance.now() - startedMs).toBeLessThan(10_000)
  })
})

describe('text completions', () => {
  const body = { model: MODEL, temperature: 0, max_tokens: 6 } as const
  const textOf = (answer: OpenAI.Completion) => answer.choices.map(({ text }) => text)

  it('continue text, ids or a batch of either, streamed or not', async ({ expect }) => {
    const prompts = ['The capital of France is', 'One, two, three,']
    const batch = await openai.completions.create({ ...body, prompt: prompts, n: 2 })
    expect(batch.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
    const alone = await openai.completions.create({ ...body, prompt: prompts[1]! })
    expect(textOf(batch).slice(2)).toEqual([textOf(alone)[0], textOf(alone)[0]])
    expect(textOf(alone)[0]).not.toBe('')

    let text = ''
    let usage: OpenAI.CompletionUsage | null | undefined
    for await (const chunk of await openai.completions.create({
      ...body,
      prompt: prompts[1]!,
      stream: true,
      stream_options: { include_usage: true },
    })) {
      text += chunk.choices[0]?.text ?? ''
      usage = chunk.usage ?? usage
    }
    expect(text).toBe(textOf(alone)[0])
    expect(usage).toMatchObject({ completion_tokens: alone.usage!.completion_tokens })
  })

  it('echo and score a prompt as lm-evaluation-harness asks', async ({ expect }) => {
    const prompt = [504, 3575, 282, 4649, 314, 260]
    const scored = await openai.completions.create({
      ...body,
      prompt: [prompt],
      max_tokens: 1,
      logprobs: 1,
      ...seededWith(1234),
      echo: true,
    })
    const { tokens, token_logprobs: logprobs, top_logprobs: tops } = scored.choices[0]!.logprobs!
    expect(tokens).toHaveLength(prompt.length + 1)
    expect(logprobs![0]).toBeNull()
    // What the harness reads: sum over a continuation, and whether it is the greedy one.
    const continuation = logprobs!.slice(3, -1)
    expect(continuation).toHaveLength(prompt.length - 3)
    expect(continuation.every((value) => value < 0)).toBe(true)
    for (const [i, top] of tops!.entries()) {
      if (i === 0) expect(top).toBeNull()
      else expect(Math.max(...Object.values(top))).toBeGreaterThanOrEqual(logprobs![i]!)
    }
    const byText = await openai.completions.create({
      ...body,
      prompt: tokens!.slice(0, prompt.length).join(''),
      max_tokens: 0,
      logprobs: 1,
      echo: true,
    })
    expect(byText.choices[0]!.logprobs!.token_logprobs).toEqual(logprobs!.slice(0, -1))
  })
})

const schemaFormat = (schema: Record<string, unknown>) => ({
  type: 'json_schema' as const,
  json_schema: { name: 'answer', schema, strict: true },
})

describe('response formats', () => {
  const PERSON = {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 12 }, age: { type: 'integer', minimum: 0 } },
    required: ['name', 'age'],
    additionalProperties: false,
  }
  const body = {
    model: MODEL,
    messages: ask('Describe a person.'),
    temperature: 0,
    max_completion_tokens: 60,
    response_format: schemaFormat(PERSON),
  }

  it('make the answer follow a schema, streamed or whole', async ({ expect }) => {
    const answer = await openai.chat.completions.create({ ...body, n: 2 })
    const stream = await openai.chat.completions.create({ ...body, stream: true })
    let streamed = ''
    for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? ''
    for (const { message, finish_reason: reason } of answer.choices) {
      expect(reason).toBe('stop')
      const person = JSON.parse(message.content!) as { name: unknown; age: unknown }
      expect(Object.keys(person)).toEqual(['name', 'age'])
      expect(person.name).toBeTypeOf('string')
      expect(person.age).toBeTypeOf('number')
    }
    expect(streamed).toBe(answer.choices[0]?.message.content)
  })

  it('are read by the client’s own parser', async ({ expect }) => {
    const parsed = await openai.chat.completions.parse(body)
    expect(parsed.choices[0]?.message.parsed).toHaveProperty('age')
  })
})

describe('errors', () => {
  it('arrive as the client’s own classes with OpenAI’s codes', async ({ expect }) => {
    const create = (body: object) =>
      openai.chat.completions.create({ model: MODEL, messages: ask('Hi'), ...body })
    const tool = { type: 'function', function: { name: 'f' } } as const
    const cases: [() => Promise<unknown>, number, string | null, string | null][] = [
      [() => create({ model: 'gpt-4o' }), 404, 'model_not_found', 'model'],
      [() => create({ model: `${MODEL}:nobody` }), 404, 'model_not_found', 'model'],
      [() => create({ temperature: 'hot' }), 400, null, 'temperature'],
      [() => create({ n: 17 }), 400, null, 'n'],
      [
        () => create({ response_format: schemaFormat({ type: 'array', uniqueItems: true }) }),
        400,
        'invalid_request',
        'response_format',
      ],
      [() => create({ logit_bias: { 60000: 1 } }), 400, 'invalid_request', 'logit_bias'],
      [() => create({ messages: [] }), 400, null, 'messages'],
      [
        () => create({ messages: ask('word '.repeat(5000)) }),
        400,
        'context_length_exceeded',
        'messages',
      ],
      [() => create({ messages: ask('x'.repeat(2_000_000)) }), 413, 'request_too_large', null],
      [
        () =>
          new OpenAI({ baseURL: stack.baseUrl, apiKey: 'sk-wrong', maxRetries: 0 }).models.list(),
        401,
        'invalid_api_key',
        null,
      ],
      [() => create({ functions: [tool.function] }), 400, 'unsupported_parameter', 'functions'],
      [() => openai.responses.retrieve('resp_1'), 404, 'unsupported_endpoint', null],
      [
        () => openai.embeddings.create({ model: MODEL, input: 'Hi' }),
        404,
        'unsupported_endpoint',
        null,
      ],
      [() => openai.files.retrieve('file-none'), 404, 'file_not_found', 'id'],
      [() => openai.fineTuning.jobs.retrieve('ftjob-none'), 404, 'job_not_found', 'id'],
    ]
    for (const [call, status, code, param] of cases) {
      const error = await failure(call())
      expect([error.status, error.code, error.param], error.message).toEqual([status, code, param])
    }
    const response = await fetch(`${stack.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}` },
      body: '{"model": "smol',
    })
    expect(response.status).toBe(400)
    const answer = await create({ max_tokens: 2 })
    expect(answer.object).toBe('chat.completion')
  })
})

describe('from a file to an answer', () => {
  it('refuses a file with a bad line by its number', async ({ expect }) => {
    const error = await failure(
      openai.files.create({
        file: await toFile(Buffer.from(`${asJsonl(LINES)}\n{"input": "x"}\n`), 'bad.jsonl'),
        purpose: 'fine-tune',
      }),
    )
    expect(error.status).toBe(400)
    expect(error.message).toContain('line 9 ')
  })

  it('stores, lists, returns and deletes files', async ({ expect }) => {
    const content = asJsonl(LINES)
    const file = await openai.files.create({
      file: await toFile(Buffer.from(content), 'train.jsonl'),
      purpose: 'fine-tune',
    })
    expect(file).toMatchObject({ filename: 'train.jsonl', bytes: content.length })
    const ids: string[] = []
    for await (const listed of openai.files.list({ purpose: 'fine-tune', limit: 1 })) {
      ids.push(listed.id)
    }
    expect(ids).toContain(file.id)
    expect(await (await openai.files.content(file.id)).text()).toBe(content)
    expect(await openai.files.delete(file.id)).toMatchObject({ deleted: true })
    expect((await failure(openai.files.retrieve(file.id))).status).toBe(404)
  })

  it('learns a task and serves it with a proof, beside the base', async ({ expect }) => {
    const file = await openai.files.create({
      file: await toFile(Buffer.from(asJsonl(LINES)), 'train.jsonl'),
      purpose: 'fine-tune',
    })
    const created = await openai.fineTuning.jobs.create({
      model: MODEL,
      training_file: file.id,
      suffix: 'sections',
      seed: 1,
      // A method of this gateway's own, which the client's types do not know.
      method: {
        type: 'rotation',
        rotation: {
          instructions: 'Is this Sports or Business? Answer with the category only.',
          // So short a search finds little, but the test is about the client.
          force: true,
          hyperparameters: { optimizer: 'bo', n_trials: 40 },
        },
      } as never,
    })
    let job = created
    while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
      await new Promise((resolve) => setTimeout(resolve, 200))
      job = await openai.fineTuning.jobs.retrieve(created.id)
    }
    expect(job.error).toBeNull()
    expect(job).toMatchObject({ status: 'succeeded', fine_tuned_model: `${MODEL}:sections` })
    const report = (job as unknown as { arcana: { report: Record<string, number> } }).arcana.report
    expect(report['adapter_value']).toBeGreaterThan(report['base_value']!)

    const trials: number[] = []
    for await (const event of openai.fineTuning.jobs.listEvents(job.id, { limit: 9 })) {
      if (event.type === 'metrics') trials.push((event.data as { trial: number }).trial)
    }
    expect(trials.reverse()).toEqual(Array.from({ length: 40 }, (_, i) => i))
    const listed: string[] = []
    for await (const one of openai.fineTuning.jobs.list()) listed.push(one.id)
    expect(listed).toEqual([job.id])
    const ids: string[] = []
    for await (const model of openai.models.list()) ids.push(model.id)
    expect(ids).toEqual([MODEL, `${MODEL}:sections`])

    const messages = ask('The coach rested his captain for the derby.')
    const byModel = await openai.chat.completions.create({
      model: job.fine_tuned_model!,
      messages,
    })
    const { data: byHeader, response } = await openai.chat.completions
      .create({ model: MODEL, messages }, { headers: { 'x-task': 'sections' } })
      .withResponse()
    expect(['Sports', 'Business']).toContain(byHeader.choices[0]?.message.content)
    expect(byModel.choices[0]?.message.content).toBe(byHeader.choices[0]?.message.content)
    const proof = arcanaOf(byHeader)
    expect(proof).toMatchObject({ task: 'sections', version: 1 })
    expect(proof.layers.length).toBeGreaterThan(0)
    expect(response.headers.get('x-arcana-task')).toBe('sections')
    expect(response.headers.get('x-arcana-version')).toBe('1')
    expect(response.headers.get('x-arcana-adapter')).toBe(proof.adapters[0]?.digest)
    expect(proof.labels?.map(({ label }) => label)).toEqual(['Sports', 'Business'])
    const total = proof.labels!.reduce((sum, { probability }) => sum + probability, 0)
    expect(total).toBeCloseTo(1, 6)
    const likeliest = proof.labels!.reduce((a, b) => (b.probability > a.probability ? b : a))
    expect(byHeader.choices[0]?.message.content).toBe(likeliest.label)

    const streamed = await openai.chat.completions.create(
      { model: MODEL, messages, stream: true },
      { headers: { 'x-task': 'sections' } },
    )
    let text = ''
    let last: Arcana | undefined
    for await (const chunk of streamed) {
      text += chunk.choices[0]?.delta.content ?? ''
      last = (chunk as unknown as { arcana?: Arcana }).arcana ?? last
    }
    expect(text).toBe(likeliest.label)
    expect(last?.labels).toEqual(proof.labels)

    const input = messages[0]!.content as string
    const answer = await openai.responses.create({ model: `${MODEL}:sections`, input })
    expect(answer.output_text).toBe(likeliest.label)
    expect(arcanaOf(answer)).toEqual(proof)

    const comparison = await openai.post<{
      num_prefills: number
      frame: { task: string }
      arms: {
        message: { content: string }
        labels: { label: string; probability: number }[]
        first_diverging_token: number | null
        arcana: Arcana
      }[]
    }>('/compare', {
      body: { messages, arms: ['base', 'sections', 'sections*0', 'sections*0.5'], temperature: 0 },
    })
    expect(comparison).toMatchObject({ num_prefills: 1, frame: { task: 'sections' } })
    const [base, adapted, zero, half] = comparison.arms
    expect(base?.arcana.adapters).toEqual([])
    expect(adapted?.labels).toEqual(proof.labels)
    // Strength 0 is the base model, exactly.
    expect(zero?.labels).toEqual(base?.labels)
    expect(zero?.first_diverging_token).toBeNull()
    expect(adapted?.labels).not.toEqual(base?.labels)
    expect(half?.labels).not.toEqual(adapted?.labels)
    expect(half?.arcana.adapters[0]?.weight).toBe(0.5)

    const given = { model: `${MODEL}:sections`, prompt: 'The derby was', max_tokens: 2 }
    const unplaced = await failure(openai.completions.create(given))
    expect([unplaced.status, unplaced.param]).toEqual([400, 'rotate_from'])
    const placed = { ...given, rotate_from: 1 } as typeof given
    const continued = await openai.completions.create(placed)
    expect(arcanaOf(continued)).toMatchObject({ task: 'sections', adapters: proof.adapters })

    expect(
      await openai.post('/tasks/sections/promote', { body: { version: 1, expected_live: 1 } }),
    ).toMatchObject({ live_version: 1 })
    const stale = await failure(
      openai.post('/tasks/sections/promote', { body: { version: 1, expected_live: 2 } }),
    )
    expect(stale.status).toBe(409)
    expect(await openai.delete('/tasks/sections')).toMatchObject({ deleted: true })
    const gone = await failure(
      openai.chat.completions.create({ model: `${MODEL}:sections`, messages }),
    )
    expect(gone.code).toBe('model_not_found')
  })

  it('cancels a job that is running', async ({ expect }) => {
    const file = await openai.files.create({
      file: await toFile(Buffer.from(asJsonl(LINES)), 'train.jsonl'),
      purpose: 'fine-tune',
    })
    const job = await openai.fineTuning.jobs.create({
      model: MODEL,
      training_file: file.id,
      suffix: 'never',
      method: {
        type: 'rotation',
        rotation: { hyperparameters: { optimizer: 'bo', n_trials: 1000 } },
      } as never,
    })
    await vi.waitFor(async () => {
      expect((await openai.fineTuning.jobs.retrieve(job.id)).status).toBe('running')
    }, 30_000)
    expect((await openai.fineTuning.jobs.cancel(job.id)).status).toBe('cancelled')
    expect((await openai.fineTuning.jobs.retrieve(job.id)).status).toBe('cancelled')
    expect((await failure(openai.fineTuning.jobs.cancel(job.id))).status).toBe(400)
  })
})
