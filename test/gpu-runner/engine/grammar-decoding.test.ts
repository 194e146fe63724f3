/** A row under a grammar, with made-up logits: the real grammar thread, without a model. */
import { describe, test } from 'vitest'
import { TextDecoding, type DecodingOutput } from '../../../gpu-runner/decoding/decoding.ts'
import type { OpenGrammar } from '../../../gpu-runner/grammar/grammar-store.ts'
import { logitBias } from '../../../gpu-runner/sampling/logits-processors/logit-bias.ts'
import { TokenHistory } from '../../../gpu-runner/sampling/logits-processors/index.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'
import { store, tokenizer, useGrammarStore } from '../../fixtures/grammar-store.ts'

const SCHEMA = {
  type: 'object',
  properties: { a: { type: 'integer', maximum: 99, minimum: 0 }, b: { enum: ['yes', 'no'] } },
  required: ['a', 'b'],
}

useGrammarStore()

const open = (): Promise<OpenGrammar> => store.open({ type: 'json_schema', schema: SCHEMA }, 1)

function decodingOf(
  grammar: OpenGrammar,
  options: { maxTokens?: number; stops?: string[]; logprobs?: number; biased?: boolean } = {},
): TextDecoding {
  const { maxTokens = 50, stops = [], logprobs = null, biased = false } = options
  return new TextDecoding(tokenizer, {
    lastPromptToken: 1,
    maxTokens,
    stops,
    sampler: { temperature: 1, topP: 1 },
    random: createRng(5),
    // Logits favour text that the grammar does not admit, and the end.
    processors: biased
      ? [
          logitBias([
            [tokenizer.encode('Hello')[0]!, 100],
            [2, 100],
          ]),
        ]
      : [],
    grammar: grammar.rows[0]!,
    history: new TokenHistory([1]),
    numTopLogprobs: logprobs,
  })
}

/** Steps to the end; a step without a token is repeated with the same logits, as in the engine. */
function run(decoding: TextDecoding): { outputs: DecodingOutput[]; numRepeated: number } {
  const random = createRng(9)
  const outputs: DecodingOutput[] = []
  let numRepeated = 0
  let logits = new Float32Array(0)
  for (let step = 0; step < 5000; step++) {
    if (logits.length === 0) {
      logits = Float32Array.from({ length: tokenizer.vocabSize }, () => 4 * random())
    }
    const said = decoding.read(logits.slice())
    if (said.length === 0) numRepeated += 1
    else logits = new Float32Array(0)
    outputs.push(...said)
    if (said.some(({ kind }) => kind === 'finish' || kind === 'fault')) break
  }
  return { outputs, numRepeated }
}
const textOf = (outputs: readonly DecodingOutput[]): string =>
  outputs.map((output) => (output.kind === 'token' ? output.text : '')).join('')

describe('a decoding under a grammar', () => {
  test('generates only what the grammar admits, whatever the logits and biases', async ({
    expect,
  }) => {
    const texts: string[] = []
    for (const options of [{}, { biased: true }, { logprobs: 2 }]) {
      const grammar = await open()
      const { outputs } = run(decodingOf(grammar, options))
      grammar.close()
      expect(outputs.at(-1)).toMatchObject({ kind: 'finish', reason: 'stop' })
      expect(textOf(outputs)).toMatch(/^{"a": (0|[1-9][0-9]?), "b": "(yes|no)"}$/)
      texts.push(textOf(outputs))
    }
    // The same draws with log probabilities as without.
    expect(texts[2]).toBe(texts[0])
    expect(store.numOpen).toBe(0)
  })

  test('repeats a step whose mask is late, without drawing', async ({ expect }) => {
    const grammar = await open()
    const late = run(decodingOf(grammar))
    grammar.close()
    const slow = await open()
    const row = slow.rows[0]!
    const poll = row.poll.bind(row)
    let numPolls = 0
    // Every other answer is late.
    row.poll = (waitMs) => (numPolls++ % 2 === 0 ? 'pending' : poll(waitMs ?? 1000))
    const repeated = run(decodingOf(slow))
    slow.close()
    expect(repeated.numRepeated).toBeGreaterThan(5)
    expect(textOf(repeated.outputs)).toBe(textOf(late.outputs))
  })

  test('ends with stop if it is complete at its last token, else with length', async ({
    expect,
  }) => {
    const endAt = async (maxTokens: number): Promise<DecodingOutput[]> => {
      const grammar = await open()
      const { outputs } = run(decodingOf(grammar, { maxTokens }))
      grammar.close()
      return outputs
    }
    const whole = await endAt(50)
    const numTokens = whole.filter(({ kind }) => kind === 'token').length
    expect((await endAt(numTokens)).at(-1)).toMatchObject({ kind: 'finish', reason: 'stop' })
    expect((await endAt(numTokens - 1)).at(-1)).toMatchObject({ reason: 'length' })
    const grammar = await open()
    const stopped = run(decodingOf(grammar, { stops: ['"b'] }))
    grammar.close()
    expect(stopped.outputs.at(-1)).toMatchObject({ kind: 'finish', reason: 'stop' })
    expect(textOf(stopped.outputs)).toMatch(/^{"a": \d+, $/)
  })

  test('fails only its own request if its thread is lost', async ({ expect }) => {
    const grammar = await open()
    const decoding = decodingOf(grammar)
    await store.release()
    const { outputs } = run(decoding)
    expect(outputs.at(-1)).toMatchObject({ kind: 'fault' })
  })
})
