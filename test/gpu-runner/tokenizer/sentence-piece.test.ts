import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, describe, it } from 'vitest'
import { GgufError, openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { GgufMetadata } from '../../../gpu-runner/model/gguf/metadata.ts'
import {
  ChatTokenizer,
  NoChatTemplateError,
  PromptTooLongError,
} from '../../../gpu-runner/tokenizer/index.ts'
import { readVocabulary } from '../../../gpu-runner/tokenizer/vocabulary.ts'
import { GEMMA_SLUG, modelPath } from '../../fixtures/model.ts'

const BEGIN = 2
const END_OF_TEXT = 1
const END_OF_TURN = 106

const FIXTURE = JSON.parse(
  readFileSync(new URL('../fixtures/gemma-tokens.json', import.meta.url), 'utf8'),
) as { cases: { text: string; parsed: number[]; plain?: number[] }[] }

let metadata: GgufMetadata
let tokenizer: ChatTokenizer
beforeAll(async () => {
  const file = await openGguf(await modelPath(GEMMA_SLUG))
  metadata = file.metadata
  tokenizer = ChatTokenizer.fromGguf(metadata)
  await file.close()
})

describe("Gemma 3's tokenizer", () => {
  it('gives the ids of llama.cpp, with control tokens and with their names as text', ({
    expect,
  }) => {
    for (const { text, parsed, plain } of FIXTURE.cases) {
      // llama.cpp's ids are without the token that begins a prompt.
      const begun = parsed[0] === BEGIN ? parsed : [BEGIN, ...parsed]
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(begun)
      expect(tokenizer.encodeLabel(text), JSON.stringify(text)).toEqual(plain ?? parsed)
    }
  })

  it('gives ids that decode to the same text', ({ expect }) => {
    const text = fc
      .array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(' ', '\n\n', '🎉', '<b>')))
      // A mark and a space are one to SentencePiece, and come back as a space.
      .map((parts) => parts.join('').toWellFormed().replaceAll('\u2581', ''))
    fc.assert(
      fc.property(text, (value) => {
        expect(tokenizer.decode(tokenizer.encodeLabel(value))).toBe(value)
      }),
      { numRuns: 500 },
    )
  })

  it('never makes a control token from plain text', ({ expect }) => {
    const control = new Set([0, 1, 2, 3, 4, 105, 106])
    const ids = tokenizer.encodeLabel('<bos><eos><end_of_turn><start_of_turn><unk><pad><mask>')
    expect(ids.filter((id) => control.has(id))).toEqual([])
  })

  it('adds the first token once, and knows the tokens that end an answer', ({ expect }) => {
    expect(tokenizer.encode('')).toEqual([BEGIN])
    expect(tokenizer.encode('<bos>')).toEqual([BEGIN])
    expect(tokenizer.encode('<bos><bos>')).toEqual([BEGIN, BEGIN])
    expect(tokenizer.endOfTurnId).toBe(END_OF_TEXT)
    expect([...tokenizer.stopIds].sort((a, b) => a - b)).toEqual([END_OF_TEXT, END_OF_TURN])
  })

  it('refuses a chat, since the file has no template', ({ expect }) => {
    expect(() => tokenizer.encodeChat([{ role: 'user', content: 'Hi' }])).toThrow(
      NoChatTemplateError,
    )
  })

  it('stops soon after the first token too many', ({ expect }) => {
    expect(tokenizer.encode('a b c', { maxTokens: 4 })).toHaveLength(4)
    expect(() => tokenizer.encode('a b c', { maxTokens: 3 })).toThrow(PromptTooLongError)
    const start = performance.now()
    for (const run of ['x', ' ', '\n', 'ab ', '<b>', '🎉']) {
      const longest = run.repeat(Math.floor((2048 * 48) / Buffer.byteLength(run)))
      try {
        tokenizer.encode(longest, { maxTokens: 2048 })
      } catch (error) {
        expect(error).toBeInstanceOf(PromptTooLongError)
      }
    }
    expect(performance.now() - start).toBeLessThan(5_000)
  })

  it("ends a turn where the file's template does", ({ expect }) => {
    const values = new Map(metadata.keys().map((key) => [key, valueOf(metadata, key)]))
    values.set(
      'tokenizer.chat_template',
      '{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}<start_of_turn>model\n',
    )
    const chat = ChatTokenizer.fromGguf(new GgufMetadata(values))
    expect(chat.endOfTurnId).toBe(END_OF_TURN)
    const messages = [{ role: 'user' as const, content: ' Hi <end_of_turn>\n' }]
    const ids = chat.encodeChat(messages)
    expect(ids.filter((id) => id === BEGIN)).toHaveLength(1)
    // The message's own text ends no turn.
    expect(ids.filter((id) => id === END_OF_TURN)).toHaveLength(1)
    expect(chat.createVerbatimDetokenizer().push(BEGIN)).toBe('<bos>')
  })
})

describe('readVocabulary', () => {
  const BYTES = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  )
  const TINY: Readonly<Record<string, unknown>> = {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': ['<s>', '</s>', '▁', 'a', '▁a', '[x]', ...BYTES],
    'tokenizer.ggml.token_type': [3, 3, 1, 1, 1, 4, ...BYTES.map(() => 6)],
    'tokenizer.ggml.scores': [0, 0, -3, -2, -1, 0, ...BYTES.map(() => 0)],
    'tokenizer.ggml.bos_token_id': 0,
    'tokenizer.ggml.eos_token_id': 1,
  }
  const read = (changes: Record<string, unknown>) =>
    readVocabulary(new GgufMetadata(new Map(Object.entries({ ...TINY, ...changes }))))

  it('puts a space before text that starts a stretch, where the file does not forbid it', ({
    expect,
  }) => {
    const encode = (startsText: boolean, changes: Record<string, unknown> = {}): number[] => {
      const ids: number[] = []
      Array.from(read(changes).encoder.encode('a[x]a', Infinity, ids, startsText))
      return ids
    }
    expect(encode(true)).toEqual([4, 5, 4])
    expect(encode(false)).toEqual([3, 5, 4])
    expect(encode(true, { 'tokenizer.ggml.add_space_prefix': false })).toEqual([3, 5, 3])
  })

  it.for([
    [
      'a missing byte',
      { 'tokenizer.ggml.token_type': [3, 3, 1, 1, 1, 4, ...BYTES.map(() => 1)] },
      /byte 0/,
    ],
    ['missing scores', { 'tokenizer.ggml.scores': [0] }, /one score for each token/],
    [
      'a type of no meaning',
      { 'tokenizer.ggml.token_type': [9, 3, 1, 1, 1, 4, ...BYTES.map(() => 6)] },
      /type 9/,
    ],
    ['another kind', { 'tokenizer.ggml.model': 'bert' }, /bert is not served/],
  ] as const)('refuses %s', ([, changes, message], { expect }) => {
    expect(() => read(changes)).toThrow(GgufError)
    expect(() => read(changes)).toThrow(message)
  })
})

function valueOf(metadata: GgufMetadata, key: string): unknown {
  for (const read of [
    'optionalString',
    'optionalNumber',
    'optionalBoolean',
    'strings',
    'numbers',
  ] as const) {
    try {
      return metadata[read](key)
    } catch {
      // of another type
    }
  }
  return undefined
}
