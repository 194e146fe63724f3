import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { test, vi } from 'vitest'
import { openTrainingGraph } from '../../../gpu-runner/onnx/backward/index.ts'
import { openBuild } from '../../../gpu-runner/onnx/serving/index.ts'
import { openBackend } from '../../../gpu-runner/ort/index.ts'
import { decodeModelConfig, openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { modelPath, TEST_CACHE_DIR } from '../../fixtures/model.ts'
import { needs } from '../../fixtures/needs.ts'
import { MODEL_DIGEST } from '../../fixtures/runner.ts'

const NUM_LOADS = 5
/** A loaded training graph is some 800 MiB. */
const MAX_KEPT_MIB = 150
/** Memory is given back beside the event loop. */
const GIVEN_BACK = { timeout: 5_000, interval: 50 }

const residentMib = async (): Promise<number> => {
  const status = await readFile('/proc/self/status', 'utf8')
  return Number(/RssAnon:\s+(\d+)/.exec(status)![1]) / 1024
}

// The kernel tells a process's own memory under /proc; elsewhere there is nothing to measure with.
test(
  'a session that is let go gives its memory back, however often it is loaded',
  needs('Linux', process.platform === 'linux'),
  async ({ expect }) => {
    const gguf = await modelPath()
    const file = await openGguf(gguf)
    const maxContext = decodeModelConfig(file.metadata).contextLength
    await file.close()
    const options = { format: 'float32', rotation: true, maxContext } as const
    const build = await openBuild(gguf, MODEL_DIGEST, path.join(TEST_CACHE_DIR, 'builds'), options)
    const graph = await openTrainingGraph(build, 'choices')
    const { backend } = openBackend('c-api')
    const before = await residentMib()
    for (let load = 0; load < NUM_LOADS; load++) {
      const session = await backend.createSession(graph, { numThreads: 2, allowSpinning: false })
      expect((await residentMib()) - before).toBeGreaterThan(4 * MAX_KEPT_MIB)
      session.release()
      await vi.waitFor(async () => {
        expect((await residentMib()) - before).toBeLessThan(MAX_KEPT_MIB)
      }, GIVEN_BACK)
    }
  },
)
