/** Schemas of the official helpers: the runner serves them, and the helpers parse every finished answer. */
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { describe, test } from 'vitest'
import { z } from 'zod'
import { matchesPattern } from '../../../gpu-runner/grammar/schema/match-pattern.ts'
import { readPattern } from '../../../gpu-runner/grammar/schema/pattern.ts'
import { readSchema } from '../../../gpu-runner/grammar/schema/read-schema.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { responseFormatSchema } from '../../../src/protocol/response-format.ts'
import { store, tokenizer, useGrammarStore } from '../../fixtures/grammar-store.ts'
import { walkRow } from './walk.ts'

useGrammarStore({ maxGrammars: 3, compileTimeoutMs: 120_000 })

/** Properties of one object: each grammar is a thread that takes its time to start. */
const NUM_TOGETHER = 6
const NUM_WALKS = 2

/** @returns finished answers, and the keywords that were only hints */
async function walk(
  schema: Record<string, unknown>,
  strict: boolean,
  numWalks = NUM_WALKS,
  patience = 6,
): Promise<{ texts: string[]; hints: readonly string[] }> {
  const random = createRng(11)
  const grammar = await store.open({ type: 'json_schema', schema, strict }, numWalks)
  const texts = grammar.rows.flatMap((row) => walkRow(tokenizer, row, random, patience) ?? [])
  grammar.close()
  return { texts, hints: grammar.hints }
}

type Tree = { v: string; kids: Tree[] }
const Tree: z.ZodType<Tree> = z.object({
  v: z.string(),
  get kids() {
    return z.array(Tree)
  },
})

/** Properties as zod 4 writes them and OpenAI's helper passes them on. */
const FROM_ZOD: Readonly<Record<string, z.ZodType>> = {
  'z.int()': z.int(),
  'z.int() with bounds': z.int().min(1).max(5),
  'z.number().int().nonnegative()': z.number().int().nonnegative(),
  'z.float32()': z.float32(),
  'z.int32()': z.int32(),
  'exclusive bounds': z.number().gt(1).lt(3),
  'z.email()': z.email(),
  'z.uuid()': z.uuid(),
  'z.guid()': z.guid(),
  'z.url()': z.url(),
  'z.ipv4()': z.ipv4(),
  'z.ipv6()': z.ipv6(),
  'z.cidrv4()': z.cidrv4(),
  'z.hostname()': z.hostname(),
  'z.cuid2()': z.cuid2(),
  'z.ulid()': z.ulid(),
  'z.nanoid()': z.nanoid(),
  'z.e164()': z.e164(),
  'z.hex()': z.hex(),
  'z.mac()': z.mac(),
  'z.iso.date()': z.iso.date(),
  'z.iso.time()': z.iso.time(),
  'z.iso.datetime()': z.iso.datetime(),
  'z.iso.datetime() with an offset': z.iso.datetime({ offset: true }),
  'z.iso.datetime() with milliseconds': z.iso.datetime({ precision: 3 }),
  'z.iso.duration()': z.iso.duration(),
  'a regular expression': z.string().regex(/^[A-Z]{2}-\d+$/),
  'a regular expression and lengths': z
    .string()
    .regex(/^[a-z]+$/)
    .min(2)
    .max(4),
  startsWith: z.string().startsWith('ab"'),
  'lower case': z.string().lowercase(),
  'a template literal': z.templateLiteral(['a-', z.enum(['b', 'c'])]),
  'a discriminated union': z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('a'), x: z.string() }),
    z.object({ kind: z.literal('b') }),
  ]),
  'a union': z.union([z.string(), z.number()]),
  'an intersection': z.intersection(z.object({ a: z.int() }), z.object({ b: z.boolean() })),
  nullish: z.object({ q: z.string().nullish() }),
  'a default': z.string().default('x'),
  literals: z.literal(['a', 1, null]),
  'an array': z
    .array(z.enum(['a', 'b']))
    .min(1)
    .max(3),
  'texts about it': z
    .string()
    .describe('hi')
    .meta({ title: 't', examples: ['x'] }),
  recursion: Tree,
}

const GROUPS = Array.from(
  { length: Math.ceil(Object.keys(FROM_ZOD).length / NUM_TOGETHER) },
  (_, i) => Object.entries(FROM_ZOD).slice(NUM_TOGETHER * i, NUM_TOGETHER * (i + 1)),
)

describe('a schema of zod through the official helper', () => {
  test.for(GROUPS.map((group) => [group.map(([name]) => name).join(', '), group] as const))(
    'is served: %s',
    async ([, group], { expect }) => {
      const whole = z.object(Object.fromEntries(group))
      const format = responseFormatSchema.parse(zodResponseFormat(whole, 'answer'))
      if (format?.type !== 'json_schema') throw new Error('no schema')
      expect(format.strict).toBe(true)
      const { texts, hints } = await walk(format.schema, true)
      expect(hints).toEqual([])
      expect(texts).toHaveLength(NUM_WALKS)
      for (const text of texts) {
        expect.soft(whole.safeParse(JSON.parse(text)).error, text).toBeUndefined()
      }
    },
  )

  test('is served as a function’s parameters', async ({ expect }) => {
    const parameters = z.object({ id: z.int(), day: z.iso.date() })
    const tool = zodFunction({ name: 'f', parameters })
    const { texts } = await walk(tool.function.parameters!, true)
    expect(texts).toHaveLength(NUM_WALKS)
    for (const text of texts) expect.soft(parameters.safeParse(JSON.parse(text)).success).toBe(true)
  })

  test.for([
    ['z.jwt()', z.jwt(), '"format" "jwt"'],
    ['z.emoji()', z.emoji(), '"pattern"'],
    ['a multiple', z.number().multipleOf(0.01), '"multipleOf"'],
    ['a length beside a format', z.email().max(30), '"maxLength"'],
    ['a look ahead', z.string().regex(/^(?=a)/), '"pattern"'],
  ] as const)('is refused by name: %s', ([, property, name], { expect }) => {
    const { schema } = zodResponseFormat(z.object({ a: property }), 'answer').json_schema
    const strict = () => readSchema(schema, { isStrict: true })
    expect(strict).toThrow(name)
    expect(strict).toThrow('#/properties/a')
    expect(readSchema(schema, { isStrict: false }).hints.join()).toContain('#/properties/a/')
  })
})

describe('a pattern', () => {
  /** Whether the grammar admits a text token by token, and its end. */
  async function admits(pattern: string, text: string): Promise<boolean> {
    const grammar = await store.open(
      { type: 'json_schema', schema: { type: 'string', pattern }, strict: true },
      1,
    )
    const [row] = grammar.rows
    const logits = new Float32Array(tokenizer.vocabSize)
    const isNext = (id: number): boolean => {
      if (row!.poll(30_000) !== 'ready') throw new Error('no mask')
      logits.fill(0)
      row!.process(logits)
      return logits[id] === 0
    }
    try {
      for (const id of tokenizer.encode(JSON.stringify(text))) {
        if (!isNext(id)) return false
        row!.accept(id)
      }
      return isNext([...tokenizer.stopIds][0]!)
    } finally {
      grammar.close()
    }
  }

  test.for([
    ['a[^b"]?c', ['xxac', 'axcz', 'Größe ac 名'], ['abc', 'ca', '']],
    ['^[^A-Z]+$', ['abc é 名', '{1}'], ['aBc', 'Ä A', '']],
    ['^[\\w"é]{2}$', ['a"', 'é_'], ['a', 'è_', 'a b']],
    ['^(?:a|bc)*?x|^q$', ['x', 'abcaxyz', 'q'], ['bx', 'qq']],
    ['^\\d{1,3}\\.\\u0041\\/$', ['12.A/'], ['1234.A/', '1,A/']],
  ] as const)('admits what it says: %s', async ([pattern, good, bad], { expect }) => {
    const own = new RegExp(pattern)
    for (const text of good) {
      expect.soft(own.test(text), text).toBe(true)
      expect.soft(await admits(pattern, text), text).toBe(true)
    }
    for (const text of bad) {
      expect.soft(own.test(text), text).toBe(false)
      expect.soft(await admits(pattern, text), text).toBe(false)
    }
  })

  test.for(['(?=a)', '\\ba', '(a)\\1', '\\p{L}', 'a^b', '[', '(', 'a{2000}', '[b-a]', '*'])(
    'is not read where no grammar holds it: %s',
    (pattern, { expect }) => {
      expect(readPattern(pattern)).toBeNull()
    },
  )

  test('is matched in a bounded time', ({ expect }) => {
    const slow = readPattern(`^${'('.repeat(40)}a${'*)'.repeat(40)}*$`)
    const startedMs = performance.now()
    matchesPattern(slow!, `${'a'.repeat(40)}b`)
    expect(performance.now() - startedMs).toBeLessThan(2000)
  })
})

describe('a schema as pydantic and others write it', () => {
  const object = (a: unknown, more: object = {}) => ({
    type: 'object',
    properties: { a },
    required: ['a'],
    additionalProperties: false,
    ...more,
  })
  const cat = object({ const: 'cat', type: 'string', default: 'cat', title: 'A' })
  const dog = object({ const: 'dog', type: 'string' })
  const $defs = { cat, dog }
  const pets = [{ $ref: '#/$defs/cat' }, { $ref: '#/$defs/dog' }]
  const cases: readonly [string, Record<string, unknown>, RegExp][] = [
    [
      'a discriminator',
      object({ discriminator: { propertyName: 'a' }, oneOf: pets }, { $defs }),
      /^\{"a": \{"a": "(cat|dog)"\}\}$/,
    ],
    [
      'a format’s pattern',
      object({ type: 'string', format: 'date', pattern: '^(?!x)' }),
      /-\d\d"}$/,
    ],
    ['"nullable"', object({ type: 'boolean', nullable: true }), /^\{"a": (true|false|null)\}$/],
    [
      '"nullable" beside a reference',
      object({ $ref: '#/$defs/cat', nullable: true }, { $defs }),
      /^\{"a": (\{"a": "cat"\}|null)\}$/,
    ],
    ['"multipleOf" 1', object({ type: 'number', multipleOf: 1 }), /^\{"a": -?\d+\}$/],
    ['a number’s "format"', object({ type: 'integer', format: 'int64' }), /^\{"a": -?\d+\}$/],
    [
      'a bound past what is written',
      object({ type: 'integer', minimum: -9007199254740991, maximum: 1e300 }),
      /^\{"a": -?\d+\}$/,
    ],
    [
      'both kinds of bound',
      object({ type: 'integer', minimum: 3, exclusiveMinimum: 3, maximum: 4 }),
      /^\{"a": 4\}$/,
    ],
    [
      'an address with lengths',
      object({ type: 'string', format: 'uri', minLength: 1, maxLength: 2083 }),
      /"https?:/,
    ],
    [
      'a password',
      object({ type: 'string', format: 'password', writeOnly: true, maxLength: 2 }),
      /./,
    ],
    ['"x-" keywords', object({ type: 'null', 'x-order': 1 }), /^\{"a": null\}$/],
    ['an encoding', object({ enum: ['x'], contentMediaType: 'application/json' }), /"x"/],
    [
      'names of keys',
      { type: 'object', propertyNames: { type: 'string' }, additionalProperties: { type: 'null' } },
      /^\{("[^"]*": null|, |\\"|.)*\}$/,
    ],
    [
      'listed keys',
      {
        type: 'object',
        propertyNames: { type: 'string', enum: ['x', 'y'] },
        additionalProperties: { type: 'null' },
        required: ['x', 'y'],
      },
      /^\{"x": null, "y": null\}$/,
    ],
    [
      'keys of a form',
      {
        type: 'object',
        propertyNames: { pattern: '^k\\d$' },
        additionalProperties: { type: 'null' },
        minProperties: 1,
        maxProperties: 2,
      },
      /^\{"k\d": null(, "k\d": null)?\}$/,
    ],
    [
      'more properties of a kind',
      { ...object({ type: 'null' }), additionalProperties: { type: 'string' } },
      /^\{"a": null\}$/,
    ],
    [
      '"allOf" of several objects',
      { allOf: [cat, { type: 'object', properties: { b: { type: 'null' } }, required: ['b'] }] },
      /^\{"a": "cat", "b": null\}$/,
    ],
    [
      '"allOf" of references and bounds',
      object(
        { allOf: [{ $ref: '#/$defs/n' }, { minimum: 4 }], description: 'x' },
        { $defs: { n: { type: 'integer', maximum: 5 } } },
      ),
      /^\{"a": [45]\}$/,
    ],
    [
      'one property by two',
      { allOf: [object({ enum: ['p', 'q'] }), object({ enum: ['q', 'r'] })] },
      /^\{"a": "q"\}$/,
    ],
    [
      'keywords beside "anyOf"',
      { type: 'object', properties: { b: { type: 'null' } }, required: ['b'], anyOf: [cat, dog] },
      /^\{"b": null, "a": "(cat|dog)"\}$/,
    ],
    [
      'one of values',
      { oneOf: [{ const: 1 }, { const: 'x' }, { type: 'null' }] },
      /^(1|"x"|null)$/,
    ],
    ['nothing, left out', object({ anyOf: [{ not: {} }, { const: 2 }, false] }), /^\{"a": 2\}$/],
    [
      'a tuple of an older draft',
      object({ type: 'array', items: [{ const: 1 }, { const: 2 }], additionalItems: false }),
      /^\{"a": \[1, 2\]\}$/,
    ],
    ['a set of one', object({ type: 'array', uniqueItems: true, maxItems: 1 }), /^\{"a": \[/],
  ]
  test.for(cases)('is enforced under strict: %s', async ([, schema, form], { expect }) => {
    const { texts, hints } = await walk(schema, true)
    expect(hints).toEqual([])
    expect(texts.length).toBeGreaterThan(0)
    for (const text of texts) expect.soft(text).toMatch(form)
  })
})
