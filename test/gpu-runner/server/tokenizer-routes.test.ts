import { beforeAll, describe, test } from 'vitest'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import {
  describeTokenizer,
  detokenize,
  tokenize,
} from '../../../gpu-runner/server/tokenizer-routes.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import { tokenizerInfoSchema } from '../../../src/protocol/tokenizer.ts'
import { modelPath } from '../../fixtures/model.ts'

let context: { tokenizer: ChatTokenizer; maxContext: number }
beforeAll(async () => {
  const file = await openGguf(await modelPath())
  context = { tokenizer: ChatTokenizer.fromGguf(file.metadata), maxContext: 512 }
  await file.close()
})

describe('the tokenizer’s calls', () => {
  test('give tokens and text back and forth, control tokens by their names', ({ expect }) => {
    const prompt = '<|im_start|>user\nnaïve 42 名前<|im_end|>\n'
    const { tokens, count } = tokenize(context, { prompt, add_special_tokens: false })
    expect(tokens).toEqual(context.tokenizer.encode(prompt))
    expect(count).toBe(tokens.length)
    expect(tokens[0]).toBe(1)
    expect(detokenize(context, { tokens })).toEqual({ prompt })
    expect(tokenize(context, { prompt: '' }).tokens).toEqual([])
  })

  test('name what lm-evaluation-harness looks for', ({ expect }) => {
    const info = tokenizerInfoSchema.parse(describeTokenizer(context))
    expect(info).toMatchObject({ eos_token: '<|im_end|>', vocab_size: 49152, max_model_len: 512 })
    // It asks for the id by encoding the name.
    const { tokens } = tokenize(context, { prompt: info.eos_token, add_special_tokens: false })
    expect(tokens).toEqual([info.eos_token_id])
    expect(info.chat_template).toContain('messages')
  })

  test('refuse what is past their bounds', ({ expect }) => {
    expect(() => tokenize(context, { prompt: 'word '.repeat(40_000) })).toThrow(/longer than/)
    expect(() => detokenize(context, { tokens: [49152] })).toThrow(/no token 49152/)
  })
})
