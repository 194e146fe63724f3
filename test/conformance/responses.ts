/** Responses through the official client: part of generic-tools.test.ts, whose stack serves them. */
import OpenAI from 'openai'
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod'
import { describe, it } from 'vitest'
import { z } from 'zod'
import { failure } from './failure.ts'

type Item = OpenAI.Responses.ResponseInputItem
type Body = OpenAI.Responses.ResponseCreateParamsNonStreaming

const Weather = z.object({ city: z.enum(['Paris', 'Rome']), days: z.int().min(1).max(7) })
const WEATHER = zodResponsesFunction({ name: 'get_weather', parameters: Weather })
const FORCED = { type: 'function', name: 'get_weather' } as const

/** Fields that differ between equal answers: ids, times and cached tokens. */
const OWN = ['id', 'call_id', 'created_at', 'completed_at', 'cached_tokens']
/** A field that the client adds. */
const ADDED = ['output_parsed', 'parsed', 'parsed_arguments']
const withoutOwn = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, own: unknown) => {
      if (ADDED.includes(key)) return undefined
      return OWN.includes(key) ? typeof own : own
    }),
  )

export function describeResponses(model: string, openai: () => OpenAI): void {
  const bodyWith = (body: Omit<Body, 'stream'>) => ({
    model,
    temperature: 0,
    max_output_tokens: 40,
    ...body,
  })

  describe('responses', () => {
    it('give the answer that the same chat gives', async ({ expect }) => {
      const chat = await openai().chat.completions.create({
        model,
        messages: [
          { role: 'system', content: 'Answer in one word.' },
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hello' },
          { role: 'user', content: 'Which city is the capital of France?' },
        ],
        temperature: 0,
        max_completion_tokens: 40,
      })
      const { data, response } = await openai()
        .responses.create(
          bodyWith({
            instructions: 'Answer in one word.',
            input: [
              { role: 'user', content: 'Hi' },
              { role: 'assistant', content: 'Hello' },
              {
                role: 'user',
                content: [{ type: 'input_text', text: 'Which city is the capital of France?' }],
              },
            ],
          }),
        )
        .withResponse()
      expect(data.output_text).toBe(chat.choices[0]!.message.content)
      expect(data.output_text).toContain('Paris')
      expect(data).toMatchObject({
        object: 'response',
        status: chat.choices[0]!.finish_reason === 'stop' ? 'completed' : 'incomplete',
        usage: {
          input_tokens: chat.usage!.prompt_tokens,
          output_tokens: chat.usage!.completion_tokens,
        },
      })
      expect(response.headers.get('x-arcana-ignored')).toBe('store')
    })

    it('that are cut are incomplete, streamed or whole', async ({ expect }) => {
      const body = bodyWith({ input: 'Tell me a story.', max_output_tokens: 6, store: false })
      const whole = await openai().responses.create(body)
      expect(whole).toMatchObject({
        status: 'incomplete',
        incomplete_details: { reason: 'max_output_tokens' },
        usage: { output_tokens: 6 },
      })
      const stream = openai().responses.stream(body)
      const types: string[] = []
      let said = ''
      stream.on('event', ({ type }) => types.push(type))
      stream.on('response.output_text.delta', ({ delta, snapshot }) => {
        said += delta
        expect(snapshot).toBe(said)
      })
      const final = await stream.finalResponse()
      expect(said).toBe(whole.output_text)
      expect(withoutOwn(final)).toEqual(withoutOwn(whole))
      expect(types.filter((type) => !type.endsWith('.delta'))).toEqual([
        'response.created',
        'response.in_progress',
        'response.output_item.added',
        'response.content_part.added',
        'response.output_text.done',
        'response.content_part.done',
        'response.output_item.done',
        'response.incomplete',
      ])
    })

    it('are parsed by a zod schema', async ({ expect }) => {
      const body = bodyWith({
        input: 'The weather in Paris for three days.',
        text: { format: zodTextFormat(Weather, 'weather') },
      })
      const parsed = await openai().responses.parse(body)
      expect(parsed.status).toBe('completed')
      expect(Weather.safeParse(parsed.output_parsed).error).toBeUndefined()
      const streamed = await openai().responses.stream(body).finalResponse()
      expect(streamed.output_parsed).toEqual(parsed.output_parsed)
    })

    it('call a function, and continue from its output', async ({ expect }) => {
      const question: Item = { role: 'user', content: 'What is the weather in Paris?' }
      const body = bodyWith({ input: [question], tools: [WEATHER], tool_choice: FORCED })
      const { data: called, response } = await openai().responses.parse(body).withResponse()
      expect(response.headers.get('x-arcana-tools')).toBe('generic')
      const [call] = called.output
      if (call?.type !== 'function_call') throw new Error('no call')
      expect(called.output).toHaveLength(1)
      expect(Weather.safeParse(call.parsed_arguments).error).toBeUndefined()
      const stream = openai().responses.stream(body)
      let json = ''
      stream.on('response.function_call_arguments.delta', ({ delta }) => (json += delta))
      const final = await stream.finalResponse()
      expect(json).toBe(call.arguments)
      expect(final.output).toMatchObject([{ name: 'get_weather', arguments: json }])

      const result = {
        type: 'function_call_output',
        call_id: call.call_id,
        output: 'sunny',
      } as const
      const answer = await openai().responses.create(
        bodyWith({ input: [question, ...(called.output as Item[]), result], max_output_tokens: 8 }),
      )
      expect(answer.output).toMatchObject([{ type: 'message', role: 'assistant' }])
      expect(answer.output_text).not.toBe('')
    })

    it('refuse unsupported requests with the client’s own class', async ({ expect }) => {
      const create = (body: Omit<Body, 'stream'>) => openai().responses.create(bodyWith(body))
      const format = {
        type: 'json_schema',
        name: 'x',
        schema: { type: 'array', uniqueItems: true },
        strict: true,
      } as const
      const cases: [Omit<Body, 'stream'>, string | null, string][] = [
        [
          { input: 'Hi', previous_response_id: 'resp_1' },
          'unsupported_parameter',
          'previous_response_id',
        ],
        [{ input: 'Hi', tools: [{ type: 'web_search' }] }, null, 'tools[0].type'],
        [{ input: 'word '.repeat(5000) }, 'context_length_exceeded', 'input'],
        [{ input: 'Hi', text: { format } }, 'invalid_request', 'text.format'],
      ]
      for (const [body, code, param] of cases) {
        const error = await failure(create(body))
        expect([error.status, error.code, error.param], error.message).toEqual([400, code, param])
      }
    })
  })
}
