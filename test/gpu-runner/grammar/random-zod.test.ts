/** Random zod schemas through the official helper: each is converted or refused by name. */
import { zodResponseFormat } from 'openai/helpers/zod'
import { describe, test } from 'vitest'
import { z } from 'zod'
import { SchemaError, type ReadSchema } from '../../../gpu-runner/grammar/schema/node.ts'
import { readSchema } from '../../../gpu-runner/grammar/schema/read-schema.ts'
import { writeEbnf } from '../../../gpu-runner/grammar/schema/write-ebnf.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { store, tokenizer, useGrammarStore } from '../../fixtures/grammar-store.ts'
import { randomObject, randomValue } from './random-zod.ts'
import { walkRow } from './walk.ts'

const writeSchema = (schema: z.ZodObject, isRaw: boolean): unknown =>
  isRaw
    ? z.toJSONSchema(schema, { io: 'input' })
    : zodResponseFormat(schema, 'answer').json_schema.schema

/** @returns null if it is refused by name */
function read(schema: unknown): ReadSchema | null {
  try {
    return readSchema(schema, { isStrict: true })
  } catch (error) {
    if (error instanceof SchemaError && /"\w+".* at #/.test(error.message)) return null
    throw error
  }
}

describe.for([
  ['the official helper', false],
  ['zod itself', true],
] as const)('random schemas of %s', ([, isRaw]) => {
  test('are refused by name, or converted to texts that they parse', ({ expect }) => {
    const random = createRng(isRaw ? 31 : 30)
    let numRead = 0
    for (let i = 0; i < 300; i++) {
      const schema = randomObject(random, 3, { isRaw })
      const written = writeSchema(schema, isRaw)
      const grammar = read(written)
      if (grammar === null) {
        // Without strict the keyword is dropped and named.
        expect(readSchema(written, { isStrict: false }).hints.length).toBeGreaterThan(0)
        continue
      }
      numRead += 1
      expect(writeEbnf(grammar)).toMatch(/^root ::= /)
      for (let draw = 0; draw < 5; draw++) {
        const value = randomValue(grammar.root, grammar.targets, random)
        const about = `${JSON.stringify(value)} of ${JSON.stringify(written)}`
        expect.soft(schema.safeParse(value).error?.message, about).toBeUndefined()
      }
    }
    expect(numRead).toBeGreaterThan(100)
    expect(numRead).toBeLessThan(300)
  })
})

describe('answers to random schemas', () => {
  useGrammarStore({ compileTimeoutMs: 120_000 })

  test('parse wherever they end', async ({ expect }) => {
    const random = createRng(32)
    let numFinished = 0
    for (let i = 0; i < 12; i++) {
      const isRaw = i % 2 === 1
      // Deep ones seldom end.
      const schema = randomObject(random, i < 8 ? 1 : 2, { isRaw })
      const grammar = read(writeSchema(schema, isRaw))
      if (grammar === null) continue
      const { rows, close } = await store.openWritten(
        { ebnf: writeEbnf(grammar), hints: [] },
        2,
        'response_format',
      )
      for (const row of rows) {
        const text = walkRow(tokenizer, row, random, 6, 300)
        if (text === null) continue
        numFinished += 1
        expect.soft(schema.safeParse(JSON.parse(text)).error?.message, text).toBeUndefined()
      }
      close()
    }
    expect(numFinished).toBeGreaterThan(5)
  })
})
