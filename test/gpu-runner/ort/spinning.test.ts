import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { float, int } from '../../../gpu-runner/onnx/model.ts'
import { GraphBuilder } from '../../../gpu-runner/onnx/serving/graph-builder.ts'
import { encodeModel } from '../../../gpu-runner/onnx/serde.ts'
import { openBackend } from '../../../gpu-runner/ort/index.ts'

const SIZE = 512
const NUM_RUNS = 5
const IDLE_MS = 100
/** By its own default ONNX Runtime polls on for 34 ms of CPU after a run. */
const MAX_IDLE_CPU_MS = 12

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'arcana-spin-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe.each(['c-api', 'js-binding'] as const)('spinning through the %s', (name) => {
  test('ends soon after the run', async ({ expect }) => {
    const graph = new GraphBuilder(null)
    graph.input('x', 'float32', [SIZE, SIZE])
    const transposed = { transB: int(1), alpha: float(1) }
    graph.output(graph.contrib('FusedMatMul', 'y', ['x', 'x'], transposed), 'float32', [SIZE, SIZE])
    const model = path.join(folder, `${name}.onnx`)
    await writeFile(model, encodeModel(graph.finish(), 'none'))
    const session = await openBackend(name).backend.createSession(model, {
      numThreads: 2,
      allowSpinning: true,
    })
    const binding = session.createBinding()
    const y = new Float32Array(SIZE * SIZE)
    binding.bindInput('x', { data: new Float32Array(SIZE * SIZE).fill(1), dims: [SIZE, SIZE] })
    binding.bindOutput('y', { data: y, dims: [SIZE, SIZE] })
    const idleCpuMs: number[] = []
    for (let i = 0; i < NUM_RUNS; i++) {
      await binding.run()
      expect(y[0]).toBe(SIZE)
      const before = process.cpuUsage()
      await sleep(IDLE_MS)
      const { user, system } = process.cpuUsage(before)
      idleCpuMs.push((user + system) / 1000)
    }
    // The minimum, because the test runner's own work may fall into a pause.
    expect(Math.min(...idleCpuMs)).toBeLessThan(MAX_IDLE_CPU_MS)
    binding.release()
    session.release()
  })
})
