import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import {
  pairsPerLayer,
  writeRotationTable,
  type LayerRotation,
  type Rotation,
} from '../../../../adapters/rotation/rotation.ts'
import { IDENTITY_SLOT } from '../../../../gpu-runner/adapters/slot-table.ts'
import { KvTensors } from '../../../../gpu-runner/kv-cache/kv-tensors.ts'
import { openTrainingGraph, type LossKind } from '../../../../gpu-runner/onnx/backward/index.ts'
import { openBuild } from '../../../../gpu-runner/onnx/serving/index.ts'
import { openBackend, type Session } from '../../../../gpu-runner/ort/index.ts'
import type { Runner } from '../../../../gpu-runner/runner.ts'
import { logNormaliser } from '../../../../gpu-runner/sampling/log-probs.ts'
import { createRng } from '../../../../gpu-runner/sampling/rng.ts'
import {
  runTrainingStep,
  type RotationTables,
  type TrainingExample,
} from '../../../../gpu-runner/scoring/training-step.ts'
import { openTestRunner } from '../../../fixtures/runner.ts'
import { TINY_MODELS, writeTinyModel } from '../../../fixtures/tiny-model.ts'

/** The same float32 numbers in another order of sums. */
const MAX_VALUE_DIFFERENCE = 1e-4
/** Central differences of float32 values at this step are off by this much themselves. */
const STEP = 2e-3
const TOLERANCE = 1e-3
const NUM_DIRECTIONS = 3
/** The prompt is longer than the windows, and so are prompt and positions together. */
const PROMPT = [1, 70, 104, 110, 35, 208, 99, 51, 77]
const TARGET = [80, 33, 190, 12]

let dir = ''
beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'arcana-backward-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** Other tokens that a label trie's node might hold beside the right one. */
const RIVALS = [5, 60, 150]

const exampleOf = (loss: LossKind): TrainingExample => ({
  promptLen: PROMPT.length,
  positions: TARGET.map((gold, i) => ({
    token: i === 0 ? PROMPT.at(-1)! : TARGET[i - 1]!,
    gold,
    choices: loss === 'vocabulary' ? null : [...RIVALS, gold],
  })),
})

/** Random angles of every layer; `along` is added, `step` times. */
function rotationOf({ config }: Runner, step: number, along: number): Rotation {
  const { numLayers, numHeads, headDim } = config
  const [angles, direction] = [createRng(5), createRng(100 + along)]
  const layers = new Map<number, LayerRotation>()
  for (let layer = 0; layer < numLayers; layer++) {
    const values = Float32Array.from({ length: pairsPerLayer(config) }, () => {
      const angle = angles() - 0.5
      return angle + step * (2 * direction() - 1)
    })
    layers.set(layer, { angles: values })
  }
  return { geometry: { numLayers, numHeads, headDim }, layers }
}

function tablesOf({ config }: Runner, rotation: Rotation): RotationTables {
  const pairs = pairsPerLayer(config)
  const tables = { numCandidates: 1, cos: [] as Float32Array[], sin: [] as Float32Array[] }
  for (let layer = 0; layer < config.numLayers; layer++) {
    const [cos, sin] = [new Float32Array(pairs), new Float32Array(pairs)]
    writeRotationTable(rotation.layers.get(layer), cos, sin, 0, pairs)
    tables.cos.push(cos)
    tables.sin.push(sin)
  }
  return tables
}

/** Σ log P(target) under a rotation, by the serving graph, one token a step. */
async function logProbOf(
  runner: Runner,
  rotation: Rotation,
  example: TrainingExample,
): Promise<number> {
  const { executor, config, context } = runner
  const slot = context.slots.acquire('candidate', () => rotation)
  const kv = new KvTensors(config, 1, 32)
  await executor.prefill(kv, 0, PROMPT.slice(0, -1), 0, IDENTITY_SLOT)
  let sum = 0
  for (const [i, { token, gold, choices }] of example.positions.entries()) {
    const at = PROMPT.length - 1 + i
    sum += await executor.decode(kv, 0, [token], [at], [slot], (row) => {
      const rivals = choices === null ? row : Float32Array.from(choices, (id) => row[id]!)
      return row[gold]! - logNormaliser(rivals)
    })
  }
  await executor.forget(kv)
  context.slots.discard(slot)
  return sum
}

for (const [index, model] of TINY_MODELS.entries()) {
  describe(`the training graph of a small ${model.name}`, () => {
    let runner: Runner
    const sessions = new Map<LossKind, Session>()
    beforeAll(async () => {
      const ggufPath = path.join(dir, `${index}.gguf`)
      const buildDir = path.join(dir, 'builds')
      await writeTinyModel(model, ggufPath)
      const modelDigest = String(index).padStart(64, '0')
      const { backend } = openBackend('c-api')
      const formats = { prefillFormat: 'float32', decodeFormat: 'float32' } as const
      runner = await openTestRunner(
        { ggufPath, modelDigest, buildDir, maxContext: 256, ...formats },
        backend,
      )
      const options = { format: 'float32', rotation: true, maxContext: 256 } as const
      const build = await openBuild(ggufPath, modelDigest, buildDir, options)
      for (const loss of ['choices', 'vocabulary'] as const) {
        const threads = { numThreads: 1, allowSpinning: false }
        const modelPath = await openTrainingGraph(build, loss)
        sessions.set(loss, await backend.createSession(modelPath, threads))
      }
    })
    afterAll(async () => {
      for (const session of sessions.values()) session.release()
      await runner.release()
    })

    test.for(['choices', 'vocabulary'] as const)(
      "has the serving graph's values over %s, and their slopes",
      async (loss, { expect }) => {
        const example = exampleOf(loss)
        const { config, executor } = runner
        const rotation = rotationOf(runner, 0, 0)
        const tables = tablesOf(runner, rotation)
        const kv = new KvTensors(config, 1, 32)
        await executor.prefill(kv, 0, PROMPT.slice(0, -1), 0, IDENTITY_SLOT)
        const zeros = (values: readonly Float32Array[]) =>
          values.map(({ length }) => new Float32Array(length))
        const sums = { numCandidates: 1, cos: zeros(tables.cos), sin: zeros(tables.sin) }
        const result = await runTrainingStep(
          sessions.get(loss)!,
          config,
          kv,
          0,
          [example],
          tables,
          [[-1]],
          sums,
        )
        await executor.forget(kv)
        const value = result.logProbs[0]![0]!
        expect(Math.abs(value - (await logProbOf(runner, rotation, example)))).toBeLessThan(
          MAX_VALUE_DIFFERENCE,
        )
        // ∂/∂θ = c·∂/∂s − s·∂/∂c
        const gradient = tables.cos.map((cos, layer) =>
          Array.from(
            cos,
            (c, i) => c * sums.sin[layer]![i]! - tables.sin[layer]![i]! * sums.cos[layer]![i]!,
          ),
        )
        const norm = Math.hypot(...gradient.flat())
        expect(norm).toBeGreaterThan(0.1)
        for (let along = 1; along <= NUM_DIRECTIONS; along++) {
          const direction = createRng(100 + along)
          const units = gradient.flat().map(() => 2 * direction() - 1)
          const expected = gradient.flat().reduce((sum, slope, i) => sum + slope * units[i]!, 0)
          const ahead = await logProbOf(runner, rotationOf(runner, STEP, along), example)
          const behind = await logProbOf(runner, rotationOf(runner, -STEP, along), example)
          const measured = (ahead - behind) / (2 * STEP)
          expect(Math.abs(measured - expected)).toBeLessThan(TOLERANCE * Math.max(norm, 1))
        }
      },
    )
  })
}
