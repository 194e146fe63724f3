import { readFileSync } from 'node:fs'
import { describe, it } from 'vitest'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { GgufMetadata } from '../../../gpu-runner/model/gguf/metadata.ts'
import { ChatTokenizer } from '../../../gpu-runner/tokenizer/index.ts'
import { modelPath } from '../../fixtures/model.ts'

const { cases } = JSON.parse(
  readFileSync(new URL('../fixtures/qwen2-tokens.json', import.meta.url), 'utf8'),
) as { cases: { text: string; ids: number[] }[] }

describe("qwen2's pre-tokenizer", () => {
  it("gives llama.cpp's ids over SmolLM2's vocabulary", async ({ expect }) => {
    const file = await openGguf(await modelPath())
    await file.close()
    const { metadata } = file
    const values = new Map<string, unknown>([
      ['tokenizer.ggml.model', 'gpt2'],
      ['tokenizer.ggml.pre', 'qwen2'],
      ['tokenizer.ggml.tokens', metadata.strings('tokenizer.ggml.tokens')],
      ['tokenizer.ggml.merges', metadata.strings('tokenizer.ggml.merges')],
      ['tokenizer.ggml.token_type', metadata.numbers('tokenizer.ggml.token_type')],
      ['tokenizer.ggml.eos_token_id', metadata.number('tokenizer.ggml.eos_token_id')],
    ])
    const tokenizer = ChatTokenizer.fromGguf(new GgufMetadata(values))
    for (const { text, ids } of cases) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids)
    }
  })
})
