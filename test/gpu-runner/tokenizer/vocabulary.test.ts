import { describe, it } from 'vitest'
import { GgufError } from '../../../gpu-runner/model/gguf/index.ts'
import { GgufMetadata } from '../../../gpu-runner/model/gguf/metadata.ts'
import { readVocabulary } from '../../../gpu-runner/tokenizer/vocabulary.ts'

const TINY: Readonly<Record<string, unknown>> = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'smollm',
  'tokenizer.ggml.tokens': ['<end>', 'a', 'b', 'ab', 'Ġ'],
  'tokenizer.ggml.token_type': [3, 1, 1, 1, 1],
  'tokenizer.ggml.merges': ['a b'],
  'tokenizer.ggml.eos_token_id': 0,
}
const read = (changes: Record<string, unknown>) =>
  readVocabulary(new GgufMetadata(new Map(Object.entries({ ...TINY, ...changes }))))

describe('readVocabulary', () => {
  it('keeps control tokens apart from those that spell bytes', ({ expect }) => {
    const vocabulary = read({})
    expect([...vocabulary.specialIds]).toEqual([['<end>', 0]])
    expect(vocabulary.bytesOfId[0]).toBeUndefined()
    expect(vocabulary.bytesOfId[3]).toEqual(Uint8Array.from([0x61, 0x62]))
    expect(vocabulary.bytesOfId[4]).toEqual(Uint8Array.from([0x20]))
    expect(vocabulary.endOfTurnId).toBe(0)
    expect(vocabulary.beginId).toBeNull()
  })

  it('finds user-defined tokens in text before it merges', ({ expect }) => {
    const { encoder, bytesOfId } = read({
      'tokenizer.ggml.tokens': ['<end>', 'a', 'b', 'ab', 'Ġ', '<é b>'],
      'tokenizer.ggml.token_type': [3, 1, 1, 1, 1, 4],
    })
    const ids: number[] = []
    Array.from(encoder.encode('ab<é b>ab <é', 6, ids, true))
    expect(ids).toEqual([3, 5, 3, 4])
    expect(new TextDecoder().decode(bytesOfId[5])).toBe('<é b>')
  })

  it('stops at every token that ends a turn, one that calls a function too', ({ expect }) => {
    const { stopIds, endOfTurnId } = read({
      'tokenizer.ggml.tokens': ['<|eot_id|>', 'a', 'b', 'ab', 'Ġ', '<|eom_id|>'],
      'tokenizer.ggml.token_type': [3, 1, 1, 1, 1, 3],
      'tokenizer.chat_template': 'x<|eom_id|><|eot_id|>',
    })
    expect([...stopIds]).toEqual([0, 5])
    expect(endOfTurnId).toBe(0)
  })

  it.for([
    ['another tokenizer', { 'tokenizer.ggml.pre': 'llama-bpe' }, /gpt2\/llama-bpe is not served/],
    [
      'a repeated token',
      { 'tokenizer.ggml.tokens': ['<end>', 'a', 'a', 'ab', 'c'] },
      /a token twice/,
    ],
    ['missing types', { 'tokenizer.ggml.token_type': [3, 1] }, /one type for each token/],
    [
      "bytes, which are SentencePiece's",
      { 'tokenizer.ggml.token_type': [3, 1, 6, 1, 1] },
      /of type 6/,
    ],
    [
      'an empty token',
      { 'tokenizer.ggml.tokens': ['<end>', 'a', '', 'ab', 'Ġ'] },
      /token 2 is empty/,
    ],
    [
      'a token that is no bytes',
      { 'tokenizer.ggml.tokens': ['<end>', 'a', 'b', 'ab', '日'] },
      /token 4/,
    ],
    [
      'a merge into a control token',
      { 'tokenizer.ggml.merges': ['<en d>'] },
      /control token <end>/,
    ],
    ['an end that is plain text', { 'tokenizer.ggml.eos_token_id': 1 }, /not a control token/],
  ] as const)('refuses %s', ([, changes, message], { expect }) => {
    expect(() => read(changes)).toThrow(GgufError)
    expect(() => read(changes)).toThrow(message)
  })
})
