/** Calls that a grammar admits, over the real vocabulary, parse as calls that follow their schemas. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, it } from 'vitest'
import type { GrammarRow } from '../../../gpu-runner/grammar/grammar-row.ts'
import { RunnerFault } from '../../../gpu-runner/runner-fault.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { ToolCallParser } from '../../../gpu-runner/tools/tool-call-parser.ts'
import { GENERIC_FORMAT } from '../../../gpu-runner/tools/generic-form.ts'
import { TOOL_FORMATS, type ToolFormat } from '../../../gpu-runner/tools/tool-format.ts'
import { writeToolGrammar } from '../../../gpu-runner/grammar/tool-grammar.ts'
import type { RunnerTools, ToolFunction } from '../../../src/protocol/tools.ts'
import { store, tokenizer, useGrammarStore } from '../../fixtures/grammar-store.ts'

const NODE = { type: 'object', properties: { deeper: { $ref: '#/$defs/node' } } }
const FUNCTIONS: readonly ToolFunction[] = [
  {
    name: 'add',
    parameters: {
      type: 'object',
      properties: { a: { type: 'integer' }, 'an "odd" key': { enum: ['<tool_call>', '}'] } },
      required: ['a', 'an "odd" key'],
      additionalProperties: false,
    },
  },
  // Both have a $ref to the same name, each in its own schema.
  { name: 'walk', parameters: { ...NODE, additionalProperties: false, $defs: { node: NODE } } },
  {
    name: 'rest',
    parameters: {
      type: 'object',
      properties: { h: { $ref: '#/$defs/node' } },
      required: ['h'],
      $defs: { node: { type: 'boolean' } },
    },
  },
  { name: 'nothing' },
]
const ajv = new Ajv2020({ strict: false })
const schemaOf = (name: string): object =>
  FUNCTIONS.find((each) => each.name === name)?.parameters ?? {
    type: 'object',
    maxProperties: 0,
  }

useGrammarStore()

const MAX_STEPS = 300
const CLOSING = ['"', '}', ']', '0', '</', '}\n', '\n']

/** Walks at random over admitted tokens, after the text `begun`. @returns null if it does not end */
function walk(row: GrammarRow, random: () => number, begun = ''): string | null {
  const bytes: number[] = []
  const logits = new Float32Array(tokenizer.vocabSize)
  const forced = tokenizer.encodeLabel(begun)
  for (let step = 0; step < MAX_STEPS; step++) {
    if (row.poll(5000) !== 'ready') throw new Error('no mask')
    logits.fill(0)
    row.process(logits)
    const admitted: number[] = []
    for (let id = 0; id < logits.length; id++) if (logits[id] === 0) admitted.push(id)
    const isClosing = step > 12 + forced.length
    const closing = admitted.filter((id) =>
      CLOSING.includes(new TextDecoder().decode(tokenizer.bytesOf(id))),
    )
    const ending = admitted.find((id) => tokenizer.stopIds.has(id))
    const from = isClosing && closing.length > 0 ? closing : admitted
    const drawn = from[Math.floor(random() * from.length)]!
    const id = forced[step] ?? (isClosing && ending !== undefined ? ending : drawn)
    if (!admitted.includes(id)) throw new Error(`token ${id} is barred after ${begun}`)
    if (tokenizer.stopIds.has(id)) return new TextDecoder().decode(Uint8Array.from(bytes))
    bytes.push(...tokenizer.textBytesOf(id)!)
    row.accept(id)
  }
  return null
}

function readCalls(format: ToolFormat, text: string) {
  const parser = new ToolCallParser(
    format,
    FUNCTIONS.map(({ name }) => name),
  )
  const parts = [...parser.push(text), ...parser.flush()]
  const calls: { name: string; json: string }[] = []
  for (const part of parts) {
    if (part.kind === 'call') calls.push({ name: part.name, json: part.arguments })
    else if (part.kind === 'arguments') calls.at(-1)!.json += part.text
  }
  return { calls, text: parts.map((part) => (part.kind === 'text' ? part.text : '')).join('') }
}

const toolsOf = (overrides: Partial<RunnerTools>): RunnerTools => ({
  functions: [...FUNCTIONS],
  choice: 'required',
  parallel: true,
  ...overrides,
})

describe('a grammar of calls', () => {
  it.for([...TOOL_FORMATS, GENERIC_FORMAT])(
    'admits only calls: $name',
    async (format, { expect }) => {
      const random = createRng(7)
      const seen = new Set<string>()
      let mostCalls = 0
      const choices: readonly Partial<RunnerTools>[] = [
        {},
        { parallel: false },
        ...FUNCTIONS.map(({ name }) => ({ choice: { name } })),
      ]
      for (const choice of choices) {
        const tools = toolsOf(choice)
        const grammar = await store.openWritten(writeToolGrammar(format, tools)!, 6, 'tools')
        for (const row of grammar.rows) {
          const said = walk(row, random)
          if (said === null) continue
          const { calls, text } = readCalls(format, said)
          expect.soft(text, said).toBe('')
          expect.soft(calls.length, said).toBeGreaterThan(0)
          if (!tools.parallel || typeof tools.choice === 'object') {
            expect.soft(calls, said).toHaveLength(1)
          }
          mostCalls = Math.max(mostCalls, calls.length)
          for (const { name, json } of calls) {
            seen.add(name)
            if (typeof tools.choice === 'object') expect.soft(name).toBe(tools.choice.name)
            expect.soft(ajv.compile(schemaOf(name))(JSON.parse(json)), said).toBe(true)
          }
        }
        grammar.close()
      }
      expect(seen).toEqual(new Set(FUNCTIONS.map(({ name }) => name)))
      if (!format.parallel) expect(mostCalls).toBe(1)
    },
  )

  it('leaves text free until a strict function is called', async ({ expect }) => {
    const format = TOOL_FORMATS.find(({ name }) => name === 'tagged')!
    const [add, ...others] = FUNCTIONS
    const tools = toolsOf({ choice: 'auto', functions: [{ ...add!, strict: true }, ...others] })
    const random = createRng(3)
    const grammar = await store.openWritten(writeToolGrammar(format, tools)!, 12, 'tools')
    let numCalls = 0
    for (const row of grammar.rows) {
      const said = walk(row, random, 'Well, <b> {"name": 1}. <tool_call>\n{"name": "add"')
      if (said === null) continue
      const [call] = readCalls(format, said).calls
      expect(call?.name, said).toBe('add')
      expect(ajv.compile(schemaOf('add'))(JSON.parse(call!.json)), said).toBe(true)
      numCalls += 1
    }
    grammar.close()
    expect(numCalls).toBeGreaterThan(6)
  })

  it('in a format without marks leaves text free that does not begin as a call', async ({
    expect,
  }) => {
    const [add, ...others] = FUNCTIONS
    const tools = toolsOf({ choice: 'auto', functions: [{ ...add!, strict: true }, ...others] })
    const written = writeToolGrammar(GENERIC_FORMAT, tools)!
    const random = createRng(3)
    for (const begun of ['{"name": "add"', 'Well, {"name": 1}.\n\nGröße']) {
      const grammar = await store.openWritten(written, 4, 'tools')
      for (const row of grammar.rows) {
        const said = walk(row, random, begun)
        if (said === null) continue
        const { calls, text } = readCalls(GENERIC_FORMAT, said)
        if (!begun.startsWith('{')) expect(calls, said).toEqual([])
        else {
          expect(text, said).toBe('')
          expect(ajv.compile(schemaOf('add'))(JSON.parse(calls[0]!.json)), said).toBe(true)
        }
      }
      grammar.close()
    }
    const grammar = await store.openWritten(written, 1, 'tools')
    expect(() => walk(grammar.rows[0]!, random, '{"x"')).toThrow('is barred')
    grammar.close()
  })

  it.for([...TOOL_FORMATS, GENERIC_FORMAT])(
    'beside a response format admits calls or an answer of it: $name',
    async (format, { expect }) => {
      // Has a $ref to the same name as two of the functions.
      const schema = {
        type: 'object',
        properties: { topic: { $ref: '#/$defs/node' } },
        required: ['topic'],
        additionalProperties: false,
        $defs: { node: { enum: ['sports', 'weather'] } },
      }
      const responseFormat = { type: 'json_schema', schema, strict: true } as const
      const tools = toolsOf({ choice: 'auto' })
      const written = writeToolGrammar(format, tools, responseFormat)!
      const random = createRng(5)
      const begins = { call: `${format.open}{"name": "add"`, answer: '{"topic"' }
      for (const [kind, begun] of Object.entries(begins)) {
        const grammar = await store.openWritten(written, 4, 'tools')
        let numEnded = 0
        for (const row of grammar.rows) {
          const said = walk(row, random, begun)
          if (said === null) continue
          numEnded += 1
          const { calls, text } = readCalls(format, said)
          if (kind === 'call') {
            expect(text, said).toBe('')
            for (const { name, json } of calls) {
              expect(ajv.compile(schemaOf(name))(JSON.parse(json)), said).toBe(true)
            }
          } else {
            expect(calls, said).toEqual([])
            expect(ajv.compile(schema)(JSON.parse(text)), said).toBe(true)
          }
        }
        grammar.close()
        expect(numEnded, kind).toBeGreaterThan(0)
      }
      const grammar = await store.openWritten(written, 1, 'tools')
      expect(() => walk(grammar.rows[0]!, random, 'Well')).toThrow('is barred')
      grammar.close()
      // Required calls leave nothing for the format to enforce.
      const required = toolsOf({})
      expect(writeToolGrammar(format, required, responseFormat)).toEqual(
        writeToolGrammar(format, required),
      )
    },
  )

  it('is absent if there is nothing to enforce', ({ expect }) => {
    expect(writeToolGrammar(TOOL_FORMATS[0]!, toolsOf({ choice: 'auto' }))).toBeNull()
  })

  const faultOf = (format: ToolFormat, overrides: Partial<RunnerTools>): RunnerFault => {
    try {
      writeToolGrammar(format, toolsOf(overrides))
    } catch (error) {
      if (error instanceof RunnerFault) return error
      throw error
    }
    throw new Error('not refused')
  }

  it('refuses by name a schema that it cannot enforce', ({ expect }) => {
    const odd: ToolFunction = {
      name: 'odd',
      parameters: { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } },
    }
    const listed: ToolFunction = { name: 'listed', parameters: { type: 'array' } }
    const [format] = TOOL_FORMATS
    const functions = [FUNCTIONS[0]!, { ...odd, strict: true }]
    expect(faultOf(format!, { functions })).toMatchObject({
      message: expect.stringMatching(/odd.*"uniqueItems"/) as unknown,
      details: { param: 'tools[1].function.parameters' },
    })
    // Without strict, the rest of the schema is enforced.
    const loose = writeToolGrammar(format!, toolsOf({ functions: [FUNCTIONS[0]!, odd] }))
    expect(loose?.hints).toEqual(['tools[1]#/properties/a/uniqueItems'])
    expect(faultOf(format!, { functions: [listed] }).message).toMatch(/must be an object/)
  })
})
