import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { writeRotationTable } from '../../../adapters/rotation/rotation.ts'
import { GraphBuilder } from '../../../gpu-runner/onnx/serving/graph-builder.ts'
import {
  rotation,
  rotationCos,
  ROTATION_POSITIONS,
  rotationSin,
} from '../../../gpu-runner/onnx/serving/rotation.ts'
import { encodeModel } from '../../../gpu-runner/onnx/serde.ts'
import { WeightFile } from '../../../gpu-runner/onnx/weight-file.ts'
import { openBackend } from '../../../gpu-runner/ort/index.ts'
import { createRng } from '../../../gpu-runner/sampling/rng.ts'

const NUM_HEADS = 3
const HEAD_DIM = 8
const PAIRS = HEAD_DIM / 2
const NUM_SLOTS = 3
/** float32 products of two numbers below 4. */
const TOLERANCE = 1e-6

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'arcana-rotation-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe.each(['c-api', 'js-binding'] as const)('the rotation node through the %s', (name) => {
  test('multiplies each adjacent pair by r·e^iθ of its own slot, head and token', async ({
    expect,
  }) => {
    const model = path.join(folder, `${name}.onnx`)
    const weights = await WeightFile.create(`${model}.data`)
    const graph = new GraphBuilder(weights)
    const size = NUM_HEADS * HEAD_DIM
    graph.input('z', 'float32', ['batch', 'sequence', size])
    graph.input(ROTATION_POSITIONS, 'int64', ['tokens', NUM_HEADS])
    const shape = graph.op('Shape', 'z.shape', ['z'])
    const geometry = { numHeads: NUM_HEADS, headDim: HEAD_DIM }
    graph.output(rotation(graph, 'r', 'z', shape, 0, geometry), 'float32', ['b', 's', size])
    await writeFile(model, encodeModel(graph.finish(), `${name}.onnx.data`))
    await weights.close()

    const random = createRng(11)
    const uniform = (length: number) => Float32Array.from({ length }, () => 2 * random() - 1)
    const cos = new Float32Array(NUM_SLOTS * NUM_HEADS * PAIRS)
    const sin = new Float32Array(cos.length)
    const layers = [
      undefined,
      { angles: uniform(NUM_HEADS * PAIRS) },
      // Not unit length, because the operator must treat its tables as plain numbers.
      { angles: uniform(NUM_HEADS * PAIRS), logScale: uniform(NUM_HEADS * PAIRS) },
    ]
    for (const [slot, layer] of layers.entries()) {
      writeRotationTable(layer, cos, sin, slot * NUM_HEADS * PAIRS, NUM_HEADS * PAIRS)
    }
    const slots = [2, 0, 1, 1, 2, 0]
    const z = uniform(slots.length * size)
    const output = new Float32Array(z.length)
    const positions = slots.flatMap((slot) =>
      Array.from({ length: NUM_HEADS }, (_, head) => BigInt(slot * NUM_HEADS + head)),
    )
    const session = await openBackend(name).backend.createSession(model, {
      numThreads: 1,
      allowSpinning: false,
    })
    const binding = session.createBinding()
    binding.bindInput('z', { data: z, dims: [2, 3, size] })
    binding.bindInput(ROTATION_POSITIONS, {
      data: BigInt64Array.from(positions),
      dims: [slots.length, NUM_HEADS],
    })
    const tableDims = [NUM_SLOTS * NUM_HEADS, PAIRS]
    binding.bindInput(rotationCos(0), { data: cos, dims: tableDims })
    binding.bindInput(rotationSin(0), { data: sin, dims: tableDims })
    binding.bindOutput('r.joined', { data: output, dims: [2, 3, size] })
    await binding.run()

    for (const [token, slot] of slots.entries()) {
      const layer = layers[slot]
      for (let i = 0; i < NUM_HEADS * PAIRS; i++) {
        const at = token * size + 2 * i
        const radius = Math.exp(layer?.logScale?.[i] ?? 0)
        const angle = layer?.angles[i] ?? 0
        const [a, b] = [z[at]!, z[at + 1]!]
        const expected = [
          radius * (a * Math.cos(angle) - b * Math.sin(angle)),
          radius * (a * Math.sin(angle) + b * Math.cos(angle)),
        ]
        expect(Math.abs(output[at]! - expected[0]!)).toBeLessThan(TOLERANCE)
        expect(Math.abs(output[at + 1]! - expected[1]!)).toBeLessThan(TOLERANCE)
        // The identity slot must not even round.
        if (slot === 0) expect([output[at], output[at + 1]]).toEqual([a, b])
      }
    }
    binding.release()
    session.release()
  })
})
