import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, test } from 'vitest'
import type { LayerRotation, Rotation } from '../../../adapters/rotation/rotation.ts'
import { IDENTITY_SLOT } from '../../../gpu-runner/adapters/slot-table.ts'
import { admit } from '../../../gpu-runner/admission/admit.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import { CATALOGUE } from '../../../gpu-runner/model/catalogue.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { argmax } from '../../../gpu-runner/sampling/sampler.ts'
import { logNormaliser } from '../../../gpu-runner/sampling/log-probs.ts'
import { prefillChunks } from '../../../gpu-runner/scheduler/chunks.ts'
import type { Arm, GenerateRequest } from '../../../src/protocol/runner.ts'
import { GEMMA_SLUG, modelPath } from '../../fixtures/model.ts'
import {
  generate,
  MODEL_DIGEST,
  openTestRunner,
  randomRotation,
  residentAdapter,
} from '../../fixtures/runner.ts'

/** float32 sums against float64 ones, over 18 layers. */
const MAX_LOGIT_DIFFERENCE = 1e-4
/** 8-bit weights and activations; llama.cpp's own differ from float64 by up to 0.3. */
const MAX_SERVED_DIFFERENCE = 0.5
/** Above this margin the served build must choose the same token. */
const CLEAR_MARGIN = 1

type Values = { readonly top: [number, number][]; log_sum: number; readonly greedy: number[] }
type GemmaCase = {
  readonly name: string
  readonly text: string
  readonly ids: number[]
  readonly base: Values
  readonly generated?: Values
  readonly llama_cpp: { readonly greedy: number[]; readonly log_probs: [number, number][] }
}
const { cases } = JSON.parse(
  readFileSync(new URL('../fixtures/gemma-values.json', import.meta.url), 'utf8'),
) as { cases: GemmaCase[] }
const GEMMA_DIGEST = CATALOGUE.get(GEMMA_SLUG)!.sha256

const openGemma = async (format: 'float32' | 'block'): Promise<Runner> =>
  openTestRunner({
    ggufPath: await modelPath(GEMMA_SLUG),
    modelDigest: GEMMA_DIGEST,
    prefillFormat: 'float32',
    decodeFormat: format,
  })

/** The rotation of make-gemma.py: 0.3·sin(7·layer + 3·head + pair). */
function referenceRotation({ config: { numLayers, numHeads, headDim } }: Runner): Rotation {
  const pairs = headDim / 2
  const layers = new Map<number, LayerRotation>()
  for (let layer = 0; layer < numLayers; layer++) {
    const angles = Float32Array.from({ length: numHeads * pairs }, (_, i) =>
      Math.fround(0.3 * Math.sin(7 * layer + 3 * Math.floor(i / pairs) + (i % pairs))),
    )
    layers.set(layer, { angles })
  }
  return { geometry: { numLayers, numHeads, headDim }, layers }
}

const largest = (differences: readonly number[]): number =>
  differences.reduce((most, difference) => Math.max(most, Math.abs(difference)), 0)

/** Logits after the prompt, then greedy tokens; its last token and later ones use `slot`. */
async function run({ executor, config }: Runner, ids: readonly number[], slot: number, n: number) {
  const kv = new KvTensors(config, 1, ids.length + n)
  for (const [start, end] of prefillChunks(ids.length - 1)) {
    await executor.prefill(kv, 0, ids.slice(start, end), start, IDENTITY_SLOT)
  }
  const tokens: number[] = []
  let first = new Float32Array(0)
  let next = ids.at(-1)!
  for (let i = 0; i < n; i++) {
    const logits = await executor.decode(kv, 0, [next], [ids.length - 1 + i], [slot], (row) =>
      row.slice(),
    )
    if (i === 0) first = logits
    next = argmax(logits)
    tokens.push(next)
  }
  await executor.forget(kv)
  return { logits: first, tokens }
}

describe('Gemma 3 270M in float32', () => {
  let runner: Runner
  let slot: number
  beforeAll(async () => {
    runner = await openGemma('float32')
    slot = runner.context.slots.acquire('reference', () => referenceRotation(runner))
  })
  afterAll(() => runner.release())

  for (const { name, ids, text, ...values } of cases) {
    for (const scope of ['base', 'generated'] as const) {
      const expected = values[scope]
      if (!expected) continue
      test(`case ${name} under ${scope} has the logits of a float64 forward pass`, async ({
        expect,
      }) => {
        expect(runner.context.tokenizer.encode(text)).toEqual(ids)
        const at = scope === 'base' ? IDENTITY_SLOT : slot
        const { logits, tokens } = await run(runner, ids, at, expected.greedy.length)
        const worst = largest(expected.top.map(([id, value]) => logits[id]! - value))
        console.log(`${name}, ${scope}: logits differ by up to ${worst}`)
        expect(worst).toBeLessThan(MAX_LOGIT_DIFFERENCE)
        expect(Math.abs(logNormaliser(logits) - expected.log_sum)).toBeLessThan(
          MAX_LOGIT_DIFFERENCE,
        )
        expect(tokens).toEqual(expected.greedy)
        if (scope === 'base') expect(tokens).toEqual(values.llama_cpp.greedy)
      })
    }
  }
})

describe('Gemma 3 270M as served', () => {
  let runner: Runner
  beforeAll(async () => {
    runner = await openGemma('block')
  })
  afterAll(() => runner.release())

  const complete = (arm: Arm, extra: Partial<GenerateRequest> = {}) =>
    generate(runner, {
      request_id: 'test',
      prompt: 'The capital of France is',
      arms: [arm],
      sampling: { max_tokens: 8, temperature: 0, top_p: 1, stop: [], logprobs: 3 },
      ...extra,
    })
  const answerOf = async (arm: Arm) =>
    (await complete(arm)).filter(({ event }) => event === 'token')

  for (const { name, ids, base, llama_cpp: peer } of cases) {
    test(`case ${name} stays near the exact values`, async ({ expect }) => {
      const { logits, tokens } = await run(runner, ids, IDENTITY_SLOT, 1)
      const sum = logNormaliser(logits)
      const toExact = base.top.map(([id, value]) => logits[id]! - sum - (value - base.log_sum))
      const toPeer = peer.log_probs.map(([id, logProb]) => logits[id]! - sum - logProb)
      const report = `${largest(toExact)} from float64, ${largest(toPeer)} from llama.cpp`
      console.log(`${name}: log probabilities differ by up to ${report}`)
      expect(largest(toExact)).toBeLessThan(MAX_SERVED_DIFFERENCE)
      expect(largest(toPeer)).toBeLessThan(MAX_SERVED_DIFFERENCE)
      const [best, second] = base.top
      if (best![1] - second![1] > CLEAR_MARGIN) expect(tokens[0]).toBe(best![0])
    })
  }

  test('rotates a row by its adapter, and is the base model at strength 0', async ({ expect }) => {
    const digest = await residentAdapter(
      runner,
      randomRotation(runner, 3, 0.6),
      'generated',
      GEMMA_DIGEST,
    )
    const withWeight = (weight: number): Arm => ({
      adapters: [{ digest, weight }],
      scope: 'generated',
    })
    const base = await answerOf({ adapters: [], scope: 'generated' })
    expect(base.length).toBeGreaterThan(3)
    // Log probabilities are among the events, so this is equality to the bit.
    expect(await answerOf(withWeight(0))).toEqual(base)
    expect(await answerOf(withWeight(1))).not.toEqual(base)
  })

  test('refuses an adapter of another base', async ({ expect }) => {
    const rotation = randomRotation(runner, 4, 0.3)
    await expect(
      residentAdapter(runner, rotation, 'generated', MODEL_DIGEST),
    ).rejects.toMatchObject({ code: 'adapter_wrong_model' })
  })

  test('refuses a chat by name, since the file has no template', ({ expect }) => {
    const chat: GenerateRequest = {
      request_id: 'test',
      messages: [{ role: 'user', content: 'Hi' }],
      arms: [{ adapters: [], scope: 'generated' }],
      sampling: { max_tokens: 8, temperature: 0, top_p: 1, stop: [] },
    }
    expect(() => admit(runner.context, chat, () => undefined)).toThrow(/no chat template/)
  })

  test('a decode step gives bit-equal logits in every batch size, windows full or not', async ({
    expect,
  }) => {
    const { executor, config } = runner
    const numRows = 8
    const kv = new KvTensors(config, numRows, 700)
    const lengths = Array.from({ length: numRows }, (_, row) => 1 + row * 90)
    for (const [row, length] of lengths.entries()) {
      const ids = Array.from({ length }, (_, i) => 500 + ((row * 37 + i * 11) % 3000))
      for (const [start, end] of prefillChunks(length)) {
        await executor.prefill(kv, row, ids.slice(start, end), start, IDENTITY_SLOT)
      }
    }
    const step = (firstRow: number, count: number): Promise<Float32Array> => {
      const rows = Array.from({ length: count }, (_, i) => firstRow + i)
      return executor.decode(
        kv,
        firstRow,
        rows.map((row) => 700 + row),
        rows.map((row) => lengths[row]!),
        rows.map(() => IDENTITY_SLOT),
        (logits) => logits.slice(),
      )
    }
    const differing: string[] = []
    const alone: Float32Array[] = []
    for (let row = 0; row < numRows; row++) alone.push(await step(row, 1))
    for (const [firstRow, count] of [
      [0, 2],
      [3, 5],
      [0, 8],
    ] as const) {
      const together = await step(firstRow, count)
      for (let i = 0; i < count; i++) {
        const row = together.subarray(i * config.vocab, (i + 1) * config.vocab)
        const same = row.every((value, token) => value === alone[firstRow + i]![token])
        if (!same) differing.push(`row ${firstRow + i} in a batch of ${count}`)
      }
    }
    expect(differing).toEqual([])
    await executor.forget(kv)
  })
})
