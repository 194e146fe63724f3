/** Answers under a grammar, by the real model. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import type { RunnerResponseFormat } from '../../../src/protocol/response-format.ts'
import type { Arm, GenerateEvent, GenerateRequest } from '../../../src/protocol/runner.ts'
import {
  generate,
  openTestRunner,
  randomRotation,
  residentAdapter,
  textOf,
  tokensOf,
} from '../../fixtures/runner.ts'
import { randomSchema } from '../grammar/schemas.ts'

const BASE: Arm = { adapters: [], scope: 'generated' }
const PERSON = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' }, city: { type: 'string' } },
  required: ['name', 'age'],
}
const PROMPTS = ['Describe a person.', 'Give me some data about a river.', 'List two colours.']

let runner: Runner
beforeAll(async () => {
  runner = await openTestRunner()
})
afterAll(() => runner.release())

const ask = (
  content: string,
  schema: Record<string, unknown> | null,
  sampling: Partial<GenerateRequest['sampling']> = {},
  arms: readonly Arm[] = [BASE],
): Promise<GenerateEvent[]> => {
  const format: RunnerResponseFormat =
    schema === null ? { type: 'json_object' } : { type: 'json_schema', schema }
  return generate(runner, {
    request_id: 'test',
    messages: [{ role: 'user', content }],
    arms: [...arms],
    sampling: { max_tokens: 160, temperature: 0, top_p: 1, stop: [], ...sampling },
    response_format: format,
  })
}
const endOf = (events: readonly GenerateEvent[], arm = 0) =>
  events.find((event) => event.event === 'end' && event.arm === arm) as Extract<
    GenerateEvent,
    { event: 'end' }
  >

describe('an answer with a response format', () => {
  test('satisfies its schema wherever it ends, in a batch with others', async ({ expect }) => {
    const random = createRng(4)
    const ajv = new Ajv2020({ strict: false, validateFormats: false })
    let numFinished = 0
    // More schemas than the store keeps; eight at a time share the decode batch.
    for (let round = 0; round < 5; round++) {
      const schemas = Array.from({ length: 8 }, () => randomSchema(random, 2))
      const answers = await Promise.all(
        schemas.map((schema, i) =>
          ask(PROMPTS[i % 3]!, schema, { temperature: i % 2 === 0 ? 0 : 1 }, [
            { ...BASE, seed: 8 * round + i },
          ]),
        ),
      )
      for (const [i, events] of answers.entries()) {
        const end = endOf(events)
        expect(end, JSON.stringify(events.at(-1))).toBeDefined()
        if (end.finish_reason === 'length') continue
        numFinished += 1
        const value: unknown = JSON.parse(textOf(events))
        const about = `${textOf(events)} of ${JSON.stringify(schemas[i])}`
        expect.soft(ajv.compile(schemas[i]!)(value), about).toBe(true)
      }
    }
    expect(numFinished).toBeGreaterThan(25)
  })

  test('is the same alone and beside others', async ({ expect }) => {
    const one = (seed: number) =>
      ask(PROMPTS[0]!, PERSON, { temperature: 0.8, max_tokens: 40 }, [{ ...BASE, seed }])
    const alone = await one(3)
    const company = await Promise.all([
      one(1),
      one(3),
      ask(PROMPTS[1]!, null, { max_tokens: 40 }),
      one(5),
    ])
    expect(tokensOf(company[1])).toEqual(tokensOf(alone))
    expect(tokensOf(company[0])).not.toEqual(tokensOf(alone))
  })

  test('works with adapters, arms, penalties and log probabilities', async ({ expect }) => {
    const digest = await residentAdapter(runner, randomRotation(runner, 7, 0.4))
    const rotated: Arm = { adapters: [{ digest, weight: 1 }], scope: 'generated' }
    const free = await generate(runner, {
      request_id: 'free',
      messages: [{ role: 'user', content: PROMPTS[0]! }],
      arms: [BASE],
      sampling: { max_tokens: 1, temperature: 0, top_p: 1, stop: [], logprobs: 3 },
    })
    const shaping = { frequency_penalty: 0.3, logprobs: 3, max_tokens: 120 }
    const events = await ask(PROMPTS[0]!, PERSON, shaping, [BASE, rotated])
    for (const arm of [0, 1]) {
      if (endOf(events, arm).finish_reason !== 'stop') continue
      expect(Object.keys(JSON.parse(textOf(events, arm)) as object)).toContain('age')
    }
    expect(tokensOf(events, 1)).not.toEqual(tokensOf(events, 0))
    // They describe the model's own distribution, without the grammar.
    const first = (of: readonly GenerateEvent[]) =>
      of.flatMap((event) => (event.event === 'token' ? (event.logprobs ?? []) : []))[0]!
    expect(first(events).top).toEqual(first(free).top)
    expect(first(events).token).toMatch(/^{/)
  })

  test('ends with stop if its last token is also the last one allowed', async ({ expect }) => {
    const schema = { type: 'object', properties: { a: { const: 'yes' } }, required: ['a'] }
    const whole = await ask('Say yes.', schema)
    expect(textOf(whole)).toBe('{"a": "yes"}')
    const numTokens = tokensOf(whole).length
    const exact = await ask('Say yes.', schema, { max_tokens: numTokens })
    expect(endOf(exact)).toMatchObject({ finish_reason: 'stop' })
    const cut = await ask('Say yes.', schema, { max_tokens: numTokens - 1 })
    expect(endOf(cut)).toMatchObject({ finish_reason: 'length' })
    const stopped = await ask('Say yes.', schema, { stop: ['yes'] })
    expect(textOf(stopped)).toBe('{"a": "')
  })

  test('releases its grammar, aborted or not', async ({ expect }) => {
    const { grammars } = runner
    const format = { type: 'json_schema' as const, schema: PERSON }
    const opened = await grammars.open(format, 2)
    opened.close()
    await ask(PROMPTS[0]!, PERSON, { max_tokens: 3 })
    expect(grammars.numOpen).toBe(0)
  })

  test('is refused beside a choice of labels', async ({ expect }) => {
    const request = generate(runner, {
      request_id: 'test',
      messages: [{ role: 'user', content: 'x' }],
      arms: [BASE],
      sampling: { temperature: 0, top_p: 1, stop: [] },
      choice: { labels: ['a', 'b'] },
      response_format: { type: 'json_object' },
    })
    await expect(request).rejects.toMatchObject({ details: { param: 'response_format' } })
    expect(runner.grammars.numOpen).toBe(0)
  })
})
