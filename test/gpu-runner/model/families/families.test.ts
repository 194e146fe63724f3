import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { IDENTITY_SLOT } from '../../../../gpu-runner/adapters/slot-table.ts'
import { KvTensors } from '../../../../gpu-runner/kv-cache/kv-tensors.ts'
import { logNormaliser } from '../../../../gpu-runner/sampling/log-probs.ts'
import type { Runner } from '../../../../gpu-runner/runner.ts'
import { openTestRunner } from '../../../fixtures/runner.ts'
import { TINY_MODELS, writeTinyModel } from '../../../fixtures/tiny-model.ts'

/** llama.cpp's values are rounded to five places, and both sum float32 products. */
const MAX_DIFFERENCE = 3e-5
/** llama.cpp looks GELU up by its argument in float16. Against float64: gemma.test.ts. */
const MAX_GELU_DIFFERENCE = 6e-3
/** 8-bit weights and 8-bit activations, in models whose random weights hide no error. */
const MAX_SERVED_DIFFERENCE = 0.3

let dir = ''
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'arcana-families-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** Log probabilities after a prompt whose first `numPrefilled` tokens are one chunk. */
async function logProbs(runner: Runner, ids: readonly number[], numPrefilled: number) {
  const kv = new KvTensors(runner.config, 1, ids.length + 4)
  const { executor } = runner
  if (numPrefilled > 0) {
    await executor.prefill(kv, 0, ids.slice(0, numPrefilled), 0, IDENTITY_SLOT)
  }
  let logits = new Float32Array(0)
  for (let at = numPrefilled; at < ids.length; at++) {
    logits = await executor.decode(kv, 0, [ids[at]!], [at], [IDENTITY_SLOT], (row) => row.slice())
  }
  await executor.forget(kv)
  const sum = logNormaliser(logits)
  return Array.from(logits, (value) => value - sum)
}

const largestDifference = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0)

for (const [index, model] of TINY_MODELS.entries()) {
  describe(`a small ${model.name}`, () => {
    const open = async (format: 'float32' | 'block'): Promise<Runner> => {
      const ggufPath = path.join(dir, `${index}.gguf`)
      await writeTinyModel(model, ggufPath)
      return openTestRunner({
        ggufPath,
        modelDigest: String(index).padStart(64, '0'),
        buildDir: path.join(dir, 'builds'),
        prefillFormat: format,
        decodeFormat: format,
        maxContext: 256,
      })
    }

    test('has the log probabilities of llama.cpp, however the prompt is cut', async ({
      expect,
    }) => {
      const runner = await open('float32')
      for (const { ids, logProbs: expected } of model.cases) {
        for (const numPrefilled of [0, 3, ids.length - 1]) {
          const actual = await logProbs(runner, ids, numPrefilled)
          expect(largestDifference(actual, expected)).toBeLessThan(
            model.arch === 'gemma3' ? MAX_GELU_DIFFERENCE : MAX_DIFFERENCE,
          )
        }
      }
      await runner.release()
    })

    test('has them nearly in 8 bit', async ({ expect }) => {
      const runner = await open('block')
      for (const { ids, logProbs: expected } of model.cases) {
        const actual = await logProbs(runner, ids, ids.length - 1)
        expect(largestDifference(actual, expected)).toBeLessThan(MAX_SERVED_DIFFERENCE)
      }
      await runner.release()
    })
  })
}
