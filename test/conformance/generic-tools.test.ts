/**
 * Functions with a model whose template takes none, through the official client: the gateway says
 * that their form is generic, and forced calls hold to their schemas all the same.
 */
import OpenAI from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { beforeAll, describe, it } from 'vitest'
import { z } from 'zod'
import { sharedStack } from '../fixtures/shared-stack.ts'
import { describeResponses } from './responses.ts'

const MODEL = 'smollm2-135m-instruct'
const Weather = z.object({
  city: z.enum(['Paris', 'Rome', 'Oslo']),
  unit: z.enum(['celsius', 'fahrenheit']).nullable(),
  days: z.int().min(1).max(7),
})
const WEATHER = zodFunction({
  name: 'get_weather',
  description: 'The weather in a city on the next days.',
  parameters: Weather,
})
const TIME = zodFunction({ name: 'get_time', parameters: z.object({ zone: z.literal('UTC') }) })
const ASK: OpenAI.Chat.ChatCompletionMessageParam[] = [
  { role: 'user', content: 'What is the weather in Paris today?' },
]

let openai: OpenAI
beforeAll(async () => {
  const { baseUrl, apiKey } = await sharedStack()
  openai = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0 })
})

type Body = Omit<OpenAI.Chat.ChatCompletionCreateParamsNonStreaming, 'stream'>
const bodyWith = (body: Partial<Body>) => ({
  model: MODEL,
  messages: ASK,
  temperature: 0,
  max_completion_tokens: 120,
  tools: [WEATHER, TIME],
  ...body,
})
const NAMED = { type: 'function', function: { name: 'get_weather' } } as const

function callsOf({ choices: [choice] }: OpenAI.ChatCompletion) {
  return (choice!.message.tool_calls ?? []).map((call) => {
    if (call.type !== 'function') throw new Error('a call of another kind')
    return { name: call.function.name, given: JSON.parse(call.function.arguments) as unknown }
  })
}

describe('tools in the generic form', () => {
  it('are called if required, whole and streamed', async ({ expect }) => {
    for (const tool_choice of ['required', NAMED] as const) {
      const { data, response } = await openai.chat.completions
        .create(bodyWith({ tool_choice }))
        .withResponse()
      expect(response.headers.get('x-arcana-tools')).toBe('generic')
      expect(response.headers.get('x-arcana-warning')).toBeNull()
      expect(data.choices[0]).toMatchObject({
        finish_reason: 'tool_calls',
        message: { content: null },
      })
      const calls = callsOf(data)
      expect(calls).toHaveLength(1)
      const [{ name, given }] = calls as [(typeof calls)[number]]
      expect(['get_weather', 'get_time']).toContain(name)
      if (tool_choice !== 'required') expect(name).toBe('get_weather')
      if (name === 'get_weather') expect(Weather.safeParse(given).error).toBeUndefined()
      const final = await openai.chat.completions
        .stream(bodyWith({ tool_choice }))
        .finalChatCompletion()
      expect(callsOf(final)).toEqual(calls)
    }
  })

  it('need not be called, not even strict functions', async ({ expect }) => {
    const { data, response } = await openai.chat.completions
      .create(bodyWith({ max_completion_tokens: 40, n: 2 }))
      .withResponse()
    expect(response.headers.get('x-arcana-tools')).toBe('generic')
    for (const { message, finish_reason: reason } of data.choices) {
      if (reason === 'tool_calls') expect(message.tool_calls).toHaveLength(1)
      else expect(message.content).not.toBe('')
    }
    const none = await openai.chat.completions
      .create(bodyWith({ tool_choice: 'none', max_completion_tokens: 4 }))
      .withResponse()
    expect(none.response.headers.get('x-arcana-tools')).toBeNull()
    expect(data.usage!.prompt_tokens).toBeGreaterThan(none.data.usage!.prompt_tokens + 100)
  })

  it('work beside a response format, which an answer without calls follows', async ({ expect }) => {
    const Answer = z.object({ topic: z.enum(['weather', 'sports']), sure: z.boolean() })
    const body = bodyWith({ response_format: zodResponseFormat(Answer, 'answer') })
    const { choices } = await openai.chat.completions.parse(body)
    const { message, finish_reason: reason } = choices[0]!
    if (message.tool_calls?.length) expect(reason).toBe('tool_calls')
    else expect(Answer.safeParse(message.parsed).error).toBeUndefined()
    const streamed = await openai.chat.completions.stream(body).finalChatCompletion()
    expect(streamed.choices[0]!.message.content).toBe(message.content)
    const forced = await openai.chat.completions.create({ ...body, tool_choice: NAMED })
    expect(callsOf(forced).map(({ name }) => name)).toEqual(['get_weather'])
  })

  it('continue from a result', async ({ expect }) => {
    const first = await openai.chat.completions.create(bodyWith({ tool_choice: NAMED }))
    const { message } = first.choices[0]!
    const result = {
      role: 'tool',
      tool_call_id: message.tool_calls![0]!.id,
      content: 'sunny',
    } as const
    const { data, response } = await openai.chat.completions
      .create({
        model: MODEL,
        messages: [...ASK, message, result],
        temperature: 0,
        max_completion_tokens: 8,
      })
      .withResponse()
    expect(response.headers.get('x-arcana-tools')).toBe('generic')
    expect(data.choices[0]!.message.content).not.toBe('')
  })
})

describeResponses(MODEL, () => openai)
