/**
 * Measures the serving cost of adapters: decode steps of 16 rows with 16 different adapters, and
 * the same rows through a graph without rotation nodes, step by step in turns.
 */
import path from 'node:path'
import { SlotTable } from '../../../gpu-runner/adapters/slot-table.ts'
import { Executor } from '../../../gpu-runner/engine/executor.ts'
import { KvTensors } from '../../../gpu-runner/kv-cache/kv-tensors.ts'
import { openBuild } from '../../../gpu-runner/onnx/serving/index.ts'
import { openBackend } from '../../../gpu-runner/ort/index.ts'
import { TEST_CACHE_DIR } from '../../fixtures/model.ts'
import { MODEL_DIGEST, randomRotation } from '../../fixtures/runner.ts'
import { compare, type Summary } from './compare.ts'
import type { Lab } from './lab.ts'

const NUM_ROWS = 16
const CONTEXT_LEN = 128
const NUM_WARMUP_STEPS = 10
const NUM_STEPS = 150

export async function rotationCost({ gguf }: Lab): Promise<Summary[]> {
  const { backend } = openBackend('c-api')
  const open = async (rotation: boolean): Promise<Executor> => {
    const options = { format: 'block', rotation, maxContext: 8192 } as const
    const cache = path.join(TEST_CACHE_DIR, 'builds')
    const { modelPath: graph, config } = await openBuild(gguf, MODEL_DIGEST, cache, options)
    const session = await backend.createSession(graph, {
      numThreads: 2,
      allowSpinning: true,
    })
    const sessions = { prefill: session, decode: session }
    return new Executor(sessions, config, new SlotTable(config, NUM_ROWS + 1), {
      hasRotation: rotation,
    })
  }
  const executors = [await open(true), await open(false)] as const
  const { config, slots } = executors[0]
  const leased = Array.from({ length: NUM_ROWS }, (_, seed) =>
    slots.acquire(`adapter-${seed}`, () => randomRotation({ config }, seed, 0.3)),
  )
  const ids = Array.from({ length: NUM_ROWS }, (_, row) => 1000 + row)
  const positions = ids.map(() => CONTEXT_LEN)
  const arms = executors.map((executor, index) => {
    const kv = new KvTensors(config, NUM_ROWS, 2 * CONTEXT_LEN)
    const measure = async (): Promise<number> => {
      const start = performance.now()
      await executor.decode(kv, 0, ids, positions, leased, () => undefined)
      return (1000 * NUM_ROWS) / (performance.now() - start)
    }
    return { name: index === 0 ? 'arcana' : 'without rotation nodes', measure }
  })
  for (let step = 0; step < NUM_WARMUP_STEPS; step++) for (const arm of arms) await arm.measure()
  const bar = { atLeast: 0.97, aim: 1 }
  const summary = await compare('rotation-16', 'tokens/s', arms, NUM_STEPS, bar)
  for (const executor of executors) await executor.release()
  return [summary]
}
