/**
 * Functions through the official OpenAI client, the real gateway and the real model, whose file is
 * given a chat template that takes them: its own does not.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { startStack, type Stack } from '../fixtures/stack.ts'
import { writeModelWithTemplate } from '../fixtures/tool-model.ts'
import { TAGGED_TEMPLATE } from '../fixtures/tool-templates.ts'
import { failure } from './failure.ts'

type Tool = OpenAI.Chat.ChatCompletionFunctionTool
type Message = OpenAI.Chat.ChatCompletionMessageParam

const MODEL = 'smollm2-135m-tools'
const WEATHER_SCHEMA = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 24 },
    unit: { enum: ['celsius', 'fahrenheit'] },
    days: { type: 'integer', minimum: 1, maximum: 7 },
  },
  required: ['city', 'unit', 'days'],
  additionalProperties: false,
}
const WEATHER: Tool = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a city on the next days.',
    parameters: WEATHER_SCHEMA,
  },
}
const TIME: Tool = {
  type: 'function',
  function: {
    name: 'get_time',
    parameters: {
      type: 'object',
      properties: { zone: { $ref: '#/$defs/zone' } },
      required: ['zone'],
      $defs: { zone: { enum: ['UTC', 'CET'] } },
    },
  },
}
const ASK: Message[] = [{ role: 'user', content: 'What is the weather in Paris today?' }]
/** Shown calls alone, this small model writes another; with their results it writes a result. */
const CALLING: Message[] = [
  ...['Rome', 'Oslo', 'Bern'].flatMap((city, i): Message[] => [
    { role: 'user', content: `Weather in ${city}?` },
    {
      role: 'assistant',
      content: null,
      tool_calls: [
        {
          id: `call_${i}`,
          type: 'function',
          function: { name: 'get_weather', arguments: JSON.stringify({ city }) },
        },
      ],
    },
  ]),
  { role: 'user', content: 'Weather in Paris?' },
]
const isWeather = new Ajv2020({ strict: false }).compile(WEATHER_SCHEMA)

let folder: string
let stack: Stack
let openai: OpenAI
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-tools-'))
  const file = join(folder, 'model.gguf')
  await writeModelWithTemplate(file, TAGGED_TEMPLATE)
  stack = await startStack({ env: { ARCANA_MODEL: MODEL, ARCANA_MODEL_FILE: file } })
  openai = new OpenAI({ baseURL: stack.baseUrl, apiKey: stack.apiKey, maxRetries: 0 })
})
afterAll(async () => {
  await (stack as Stack | undefined)?.stop()
  await rm(folder, { recursive: true, force: true })
})

// OpenAI calls it deprecated, but it makes the test repeatable.
const seededWith = (seed: number) => ({ seed })

const ask = (body: Partial<OpenAI.Chat.ChatCompletionCreateParamsNonStreaming>) =>
  openai.chat.completions.create({
    model: MODEL,
    messages: ASK,
    temperature: 0,
    max_completion_tokens: 160,
    tools: [WEATHER, TIME],
    ...body,
  })

function callsOf(answer: OpenAI.ChatCompletion) {
  return (answer.choices[0]!.message.tool_calls ?? []).map((call) => {
    if (call.type !== 'function') throw new Error('a call of another kind')
    return { id: call.id, name: call.function.name, arguments: call.function.arguments }
  })
}

describe('a named function', () => {
  it('is called once, with arguments that its schema admits', async ({ expect }) => {
    const answer = await ask({
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
    })
    const [choice] = answer.choices
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
    const calls = callsOf(answer)
    expect(calls).toHaveLength(1)
    expect(calls[0]!.id).toMatch(/^call_\w+$/)
    expect(calls[0]!.name).toBe('get_weather')
    expect(isWeather(JSON.parse(calls[0]!.arguments)), calls[0]!.arguments).toBe(true)
  })

  it('gives the same call streamed, in parts', async ({ expect }) => {
    const tool_choice = { type: 'function', function: { name: 'get_weather' } } as const
    const whole = callsOf(await ask({ tool_choice }))
    const stream = openai.chat.completions.stream({
      model: MODEL,
      messages: ASK,
      temperature: 0,
      max_completion_tokens: 160,
      tools: [WEATHER, TIME],
      tool_choice,
    })
    let numParts = 0
    stream.on('chunk', (chunk) => (numParts += chunk.choices[0]?.delta.tool_calls?.length ?? 0))
    const final = await stream.finalChatCompletion()
    expect(final.choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { content: null },
    })
    const streamed = callsOf(final)
    expect(streamed.map(({ name, arguments: json }) => [name, json])).toEqual(
      whole.map(({ name, arguments: json }) => [name, json]),
    )
    expect(numParts).toBeGreaterThan(3)
  })
})

describe('a required call', () => {
  it('calls one of the functions, in each answer its own', async ({ expect }) => {
    const answer = await ask({ tool_choice: 'required', temperature: 1, n: 4, ...seededWith(4) })
    const ids = new Set<string>()
    for (const { message, finish_reason: reason } of answer.choices) {
      const calls = message.tool_calls ?? []
      expect(reason === 'length' || calls.length > 0).toBe(true)
      for (const call of calls) {
        if (call.type !== 'function') throw new Error('a call of another kind')
        ids.add(call.id)
        expect(['get_weather', 'get_time']).toContain(call.function.name)
        if (reason === 'length') continue
        const given: unknown = JSON.parse(call.function.arguments)
        if (call.function.name === 'get_weather') expect(isWeather(given)).toBe(true)
        else expect(['UTC', 'CET']).toContain((given as { zone: string }).zone)
      }
    }
    expect(answer.choices.some((choice) => choice.finish_reason === 'tool_calls')).toBe(true)
    expect(ids.size).toBe(
      answer.choices.reduce((sum, { message }) => sum + (message.tool_calls?.length ?? 0), 0),
    )
  })

  it('is a single call without parallel calls', async ({ expect }) => {
    const answer = await ask({
      tool_choice: 'required',
      parallel_tool_calls: false,
      temperature: 1,
      n: 4,
    })
    for (const { message } of answer.choices) expect(message.tool_calls).toHaveLength(1)
  })
})

describe('a free choice', () => {
  it('may answer in text, from a prompt with the functions', async ({ expect }) => {
    const [withTools, without] = await Promise.all([
      ask({ max_completion_tokens: 4 }),
      ask({ tool_choice: 'none', max_completion_tokens: 4 }),
    ])
    expect(withTools.usage!.prompt_tokens).toBeGreaterThan(without.usage!.prompt_tokens + 80)
    expect(without.choices[0]!.message).not.toHaveProperty('tool_calls')
  })

  it('reads the calls that the model writes by itself', async ({ expect }) => {
    const answer = await ask({ messages: CALLING, parallel_tool_calls: false })
    expect(answer.choices[0]!.finish_reason, JSON.stringify(answer.choices)).toBe('tool_calls')
    const [call] = callsOf(answer)
    expect(call).toMatchObject({ name: 'get_weather' })
    expect(JSON.parse(call!.arguments)).toHaveProperty('city')
  })

  it('enforces a strict function’s arguments once it is called', async ({ expect }) => {
    const strict: Tool = { ...WEATHER, function: { ...WEATHER.function, strict: true } }
    const answer = await ask({
      tools: [strict],
      messages: CALLING,
      temperature: 0.5,
      n: 4,
      ...seededWith(1),
    })
    const calls = answer.choices
      .filter((choice) => choice.finish_reason === 'tool_calls')
      .flatMap(({ message }) => message.tool_calls ?? [])
    // The calls shown name a city alone, which the schema does not admit.
    expect(calls.length, JSON.stringify(answer.choices)).toBeGreaterThan(0)
    for (const call of calls) {
      if (call.type !== 'function') throw new Error('a call of another kind')
      expect(isWeather(JSON.parse(call.function.arguments)), call.function.arguments).toBe(true)
    }
  })
})

describe('a whole conversation', () => {
  it('continues from the result of a call', async ({ expect }) => {
    const first = await ask({
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
    })
    const { message } = first.choices[0]!
    const messages: Message[] = [
      ...ASK,
      message,
      {
        role: 'tool',
        tool_call_id: message.tool_calls![0]!.id,
        content: '{"forecast": "sunny, 21 degrees"}',
      },
    ]
    const second = await ask({ messages, tool_choice: 'none', max_completion_tokens: 16 })
    expect(second.choices[0]!.message.content).not.toBe('')
    expect(second.usage!.prompt_tokens).toBeGreaterThan(30)
  })
})

describe('a refusal', () => {
  it('names the function whose schema is not enforced', async ({ expect }) => {
    const odd: Tool = {
      type: 'function',
      function: {
        name: 'odd',
        parameters: { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } },
        strict: true,
      },
    }
    const error = await failure(ask({ tools: [WEATHER, odd], tool_choice: 'required' }))
    expect(error).toMatchObject({ status: 400, param: 'tools[1].function.parameters' })
    expect(error.message).toContain('uniqueItems')
    // Without strict the model only sees the schema, so it is accepted.
    const loose: Tool = { ...odd, function: { ...odd.function, strict: false } }
    const answer = await ask({ tools: [loose], max_completion_tokens: 2 })
    expect(answer.choices).toHaveLength(1)
  })
})
