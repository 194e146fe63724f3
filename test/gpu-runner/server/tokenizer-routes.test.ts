import { setImmediate } from 'node:timers/promises'
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
  test('give tokens and text back and forth, control tokens by their names', async ({ expect }) => {
    const prompt = '<|im_start|>user\nnaïve 42 名前<|im_end|>\n'
    const { tokens, count } = await tokenize(context, { prompt, add_special_tokens: false })
    expect(tokens).toEqual(context.tokenizer.encode(prompt))
    expect(count).toBe(tokens.length)
    expect(tokens[0]).toBe(1)
    expect(detokenize(context, { tokens })).toEqual({ prompt })
    expect((await tokenize(context, { prompt: '' })).tokens).toEqual([])
  })

  test('name what lm-evaluation-harness looks for', async ({ expect }) => {
    const info = tokenizerInfoSchema.parse(describeTokenizer(context))
    expect(info).toMatchObject({ eos_token: '<|im_end|>', vocab_size: 49152, max_model_len: 512 })
    // It asks for the id by encoding the name.
    const { tokens } = await tokenize(context, {
      prompt: info.eos_token,
      add_special_tokens: false,
    })
    expect(tokens).toEqual([info.eos_token_id])
    expect(info.chat_template).toContain('messages')
  })

  test('let others run while a long text is encoded', async ({ expect }) => {
    for (const unit of ["'s ", ' ', '#', '7', 'ab', '👩‍👩‍👧', '!\r\n']) {
      let numTurns = 0
      const others = new AbortController()
      const turns = (async () => {
        for (; !others.signal.aborted; numTurns++) await setImmediate()
      })()
      const prompt = unit.repeat(Math.ceil(20_000 / unit.length))
      await tokenize(context, { prompt }).catch(() => undefined)
      others.abort()
      await turns
      expect(numTurns, JSON.stringify(unit)).toBeGreaterThan(5)
    }
  })

  test('refuse what is past their bounds', async ({ expect }) => {
    await expect(tokenize(context, { prompt: 'word '.repeat(40_000) })).rejects.toThrow(
      /longer than/,
    )
    await expect(tokenize(context, { prompt: '#'.repeat(40_000) })).rejects.toThrow(
      /longer than 20480 characters without a break/,
    )
    expect(() => detokenize(context, { tokens: [49152] })).toThrow(/no token 49152/)
  })
})
