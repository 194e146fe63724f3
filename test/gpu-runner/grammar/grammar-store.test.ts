/** Grammars over the real vocabulary: the tokens that their masks admit, and bounds on their cost. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, test } from 'vitest'
import {
  GrammarStore,
  type GrammarStoreOptions,
} from '../../../gpu-runner/grammar/grammar-store.ts'
import type { GrammarRow } from '../../../gpu-runner/grammar/grammar-row.ts'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { RunnerFault } from '../../../gpu-runner/runner-fault.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import { modelPath } from '../../fixtures/model.ts'
import { randomSchema } from './schemas.ts'
import { walkRow } from './walk.ts'

const DATE_TIME = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))$/
const isDate = (text: string): boolean => {
  const time = Date.parse(`${text}T00:00:00Z`)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text)
}
const isTime = (text: string): boolean =>
  /^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/.test(text)
const ajv = new Ajv2020({
  strict: false,
  formats: {
    date: isDate,
    time: isTime,
    'date-time': (text: string) => {
      const [, date, time] = DATE_TIME.exec(text) ?? []
      return date !== undefined && time !== undefined && isDate(date) && isTime(time)
    },
    uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
    ipv4: (text: string) =>
      /^\d+(\.\d+){3}$/.test(text) &&
      text.split('.').every((part) => Number(part) < 256 && String(Number(part)) === part),
    email: /^[\w+.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$/,
  },
})

let tokenizer: ChatTokenizer
let store: GrammarStore
const options: GrammarStoreOptions = {
  maxGrammars: 3,
  compileTimeoutMs: 10_000,
  maxHeapBytes: 256 << 20,
  now: () => performance.now(),
}

beforeAll(async () => {
  const file = await openGguf(await modelPath())
  tokenizer = ChatTokenizer.fromGguf(file.metadata)
  await file.close()
  store = new GrammarStore(tokenizer, options)
})
afterAll(() => store.release())

const walk = (row: GrammarRow, random: () => number, patience: number): string | null =>
  walkRow(tokenizer, row, random, patience)

const faultOf = async (schema: Record<string, unknown>, of = store): Promise<RunnerFault> => {
  try {
    const grammar = await of.open({ type: 'json_schema', schema, strict: true }, 1)
    grammar.close()
  } catch (error) {
    if (error instanceof RunnerFault) return error
    throw error
  }
  throw new Error('not refused')
}

describe('a grammar of a schema', () => {
  test('admits only text that parses and satisfies the schema', async ({ expect }) => {
    const random = createRng(20)
    let numFinished = 0
    for (let i = 0; i < 24; i++) {
      const schema = randomSchema(random, 2)
      const validate = ajv.compile(schema)
      const grammar = await store.open({ type: 'json_schema', schema }, 4)
      for (const row of grammar.rows) {
        const text = walk(row, random, 20)
        if (text === null) continue
        numFinished += 1
        const value: unknown = JSON.parse(text)
        expect.soft(validate(value), `${text} of ${JSON.stringify(schema)}`).toBe(true)
      }
      grammar.close()
    }
    // Those cut off are in the middle of some long part; most end.
    expect(numFinished).toBeGreaterThan(60)
  })
})

describe('a schema that cannot be enforced', () => {
  const object = (property: unknown): Record<string, unknown> => ({
    type: 'object',
    properties: { a: property },
  })
  const cases: readonly [string, Record<string, unknown>][] = [
    [
      '"pattern" is not supported, at #/properties/a',
      object({ type: 'string', pattern: '^(?=a)' }),
    ],
    ['"oneOf" of schemas that one value', object({ oneOf: [{ type: 'null' }, {}] })],
    ['"not"', { not: { type: 'null' } }],
    ['"if"', object({ if: {}, then: {} })],
    ['"multipleOf"', object({ type: 'number', multipleOf: 3 })],
    ['"uniqueItems"', object({ type: 'array', uniqueItems: true })],
    ['"minProperties"', { type: 'object', minProperties: 2 }],
    ['"patternProperties"', { type: 'object', patternProperties: {} }],
    ['"format" "jwt"', object({ type: 'string', format: 'jwt' })],
    ['"propertyNames"', { ...object({}), propertyNames: { minLength: 2 } }],
    ['"maxLength" beside "format"', object({ type: 'string', format: 'date', maxLength: 9 })],
    ['"maxLength" over 10000', object({ type: 'string', maxLength: 1e6 })],
    ['does not go with "type"', { type: 'string', minimum: 3 }],
  ]
  test.for(cases)(
    'is refused by name where it is strict: %s',
    async ([words, schema], { expect }) => {
      const fault = await faultOf(schema)
      expect(fault.toWire()).toMatchObject({ code: 'invalid_request', param: 'response_format' })
      expect(fault.message).toContain(words)
      const name = /^"(\w+)"/.exec(words)?.[1]
      const grammar = await store.open({ type: 'json_schema', schema }, 1)
      expect(grammar.hints.length).toBeGreaterThan(0)
      if (name !== undefined) expect(grammar.hints.join()).toContain(`/${name}`)
      grammar.close()
    },
  )

  const wrong: readonly [string, Record<string, unknown>][] = [
    ['"$ref" must point', { anyOf: [{ $ref: 'https://example.test/s' }] }],
    ['"type" "text" is unknown', { type: 'text' }],
    ['names nothing', { $ref: '#/$defs/x' }],
    ['refers to itself', { $ref: '#' }],
    ['refers to itself', { allOf: [{ $ref: '#' }, { type: 'object' }] }],
    ['no finite value', { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }],
    ['no finite value', { allOf: [{ type: 'string' }, { type: 'null' }] }],
    ['no finite value', { ...object(false), required: ['a'] }],
    ['leave no number', object({ type: 'integer', minimum: 3, maximum: 2 })],
    ['within ±1000000000000000', object({ type: 'integer', minimum: 1e16 })],
  ]
  test.for(wrong)(
    'that no answer can satisfy is refused: %s',
    async ([words, schema], { expect }) => {
      for (const strict of [true, false]) {
        await expect(store.open({ type: 'json_schema', schema, strict }, 1)).rejects.toThrow(words)
      }
    },
  )

  test('costs a bounded time on another thread, and nothing the second time', async ({
    expect,
  }) => {
    const small = new GrammarStore(tokenizer, { ...options, compileTimeoutMs: 1500 })
    // Each string of another length is a few hundred states over the whole vocabulary.
    const lengths = Array.from({ length: 200 }, (_, i) => ({ type: 'string', maxLength: 300 + i }))
    const hostile = { type: 'array', prefixItems: lengths, minItems: 200, items: false }
    let longestGapMs = 0
    let lastMs = performance.now()
    const timer = setInterval(() => {
      longestGapMs = Math.max(longestGapMs, performance.now() - lastMs)
      lastMs = performance.now()
    }, 5)
    const startedMs = performance.now()
    const fault = await faultOf(hostile, small)
    const [firstMs, againMs] = [performance.now() - startedMs, performance.now()]
    clearInterval(timer)
    expect(fault.message).toContain('took over 1.5 s')
    expect(fault.toWire().param).toBe('response_format')
    expect(firstMs).toBeLessThan(6000)
    expect(longestGapMs).toBeLessThan(1000)
    expect((await faultOf(hostile, small)).message).toBe(fault.message)
    expect(performance.now() - againMs).toBeLessThan(500)
    // The next schema is served normally.
    const grammar = await small.open({ type: 'json_object' }, 1)
    expect(walk(grammar.rows[0]!, createRng(1), 5)).toMatch(/^{/)
    grammar.close()
    await small.release()
  })

  test('that runs out of memory ends only its own thread', async ({ expect }) => {
    const small = new GrammarStore(tokenizer, { ...options, maxHeapBytes: 24 << 20 })
    const texts = Array.from({ length: 1000 }, (_, i) => `${String(i).repeat(30)}${'x'.repeat(60)}`)
    const schema = { type: 'array', items: { enum: texts } }
    const fault = await faultOf(schema, small)
    expect(fault.toWire()).toMatchObject({ code: 'invalid_request', param: 'response_format' })
    await small.release()
  })
})

describe('compiled grammars', () => {
  const formatOf = (name: string) => ({
    type: 'json_schema' as const,
    schema: { type: 'object', properties: { [name]: { type: 'null' } }, required: [name] },
  })

  test('are shared by equal schemas, and evicted least recently used first', async ({ expect }) => {
    const few = new GrammarStore(tokenizer, { ...options, maxGrammars: 2 })
    const first = await few.open(formatOf('a'), 1)
    // The same but for its annotations.
    const { schema } = formatOf('a')
    const same = await few.open({ type: 'json_schema', schema: { title: 'A', ...schema } }, 2)
    expect(few.size).toBe(1)
    const second = await few.open(formatOf('b'), 1)
    await expect(few.open(formatOf('c'), 1)).rejects.toMatchObject({ code: 'over_capacity' })
    second.close()
    const third = await few.open(formatOf('c'), 1)
    expect(few.size).toBe(2)
    expect(walk(third.rows[0]!, createRng(1), 0)).toBe('{"c": null}')
    expect(walk(first.rows[0]!, createRng(1), 0)).toBe('{"a": null}')
    expect(walk(same.rows[1]!, createRng(1), 0)).toBe('{"a": null}')
    await few.release()
    expect(first.rows[0]!.poll()).toBe('failed')
  })
})
