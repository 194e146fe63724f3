import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { differentiate } from '../../../../gpu-runner/onnx/backward/differentiate.ts'
import { RULES } from '../../../../gpu-runner/onnx/backward/rules.ts'
import { ShapedGraph, type Dims } from '../../../../gpu-runner/onnx/backward/shaped-graph.ts'
import { float, int, ints } from '../../../../gpu-runner/onnx/model.ts'
import { encodeModel } from '../../../../gpu-runner/onnx/serde.ts'
import { openBackend } from '../../../../gpu-runner/ort/index.ts'
import { createRng } from '../../../../gpu-runner/sampling/rng.ts'

/** Central differences in float32: truncation and rounding are about equal here. */
const STEP = 1e-2
const TOLERANCE = 2e-3

type Case = {
  readonly name: string
  /** Operators whose rules the case tests. */
  readonly covers: readonly string[]
  /** Inputs by name with their dims; a named dim varies by run and has its size in `SIZES`. */
  readonly inputs: Readonly<Record<string, Dims>>
  /** Inputs to differentiate by; all by default. */
  readonly wanted?: readonly string[]
  /** Builds the output. */
  readonly build: (graph: ShapedGraph) => string
}

const SIZES: Readonly<Record<string, number>> = { n: 2, m: 3 }
const last = (graph: ShapedGraph): string => graph.int64([-1])

const CASES: readonly Case[] = [
  {
    name: 'a sum, one part of it broadcast',
    covers: ['Add'],
    inputs: { a: ['n', 3, 4], b: [1, 3, 1] },
    build: (graph) => graph.op('Add', ['a', 'b'], ['n', 3, 4]),
  },
  {
    name: 'a difference, one part of it broadcast',
    covers: ['Sub'],
    inputs: { a: ['n', 1], b: ['n', 4] },
    build: (graph) => graph.op('Sub', ['a', 'b'], ['n', 4]),
  },
  {
    name: 'a product, broadcast over two axes',
    covers: ['Mul'],
    inputs: { a: ['n', 3, 'm', 4], b: [1, 3, 1, 4] },
    build: (graph) => graph.op('Mul', ['a', 'b'], ['n', 3, 'm', 4]),
  },
  {
    name: 'a square, whose two uses add up',
    covers: ['Mul'],
    inputs: { a: ['n', 3] },
    build: (graph) => graph.op('Mul', ['a', 'a'], ['n', 3]),
  },
  {
    name: 'batched matrix products',
    covers: ['FusedMatMul'],
    inputs: { a: ['n', 2, 3], b: ['n', 3, 4] },
    build: (graph) => graph.op('FusedMatMul', ['a', 'b'], ['n', 2, 4], { alpha: float(0.5) }),
  },
  {
    name: 'batched matrix products, the second transposed',
    covers: ['FusedMatMul'],
    inputs: { a: ['n', 2, 3], b: ['n', 4, 3] },
    build: (graph) =>
      graph.op('FusedMatMul', ['a', 'b'], ['n', 2, 4], { alpha: float(0.5), transB: int(1) }),
  },
  {
    name: 'a matrix shared by a batch',
    covers: ['FusedMatMul'],
    inputs: { a: ['n', 2, 3], b: [4, 3] },
    wanted: ['a'],
    build: (graph) => graph.op('FusedMatMul', ['a', 'b'], ['n', 2, 4], { transB: int(1) }),
  },
  {
    name: 'axes in another order',
    covers: ['Transpose'],
    inputs: { a: ['n', 3, 'm', 2] },
    build: (graph) => {
      const moved = graph.op('Transpose', ['a'], ['m', 'n', 2, 3], { perm: ints(2, 0, 3, 1) })
      return graph.op('Mul', [moved, moved], graph.dimsOf(moved))
    },
  },
  {
    name: 'another shape',
    covers: ['Reshape'],
    inputs: { a: ['n', 6] },
    build: (graph) => {
      const shaped = graph.op('Reshape', ['a', graph.int64([0, 2, 3])], ['n', 2, 3])
      return graph.op('Mul', [shaped, shaped], ['n', 2, 3])
    },
  },
  {
    name: 'parts put together along an axis that varies',
    covers: ['Concat'],
    inputs: { a: [2, 'n'], b: [2, 'm'] },
    build: (graph) => {
      const whole = graph.op('Concat', ['a', 'b'], [2, 'n+m'], { axis: int(-1) })
      return graph.op('Mul', [whole, whole], [2, 'n+m'])
    },
  },
  {
    name: 'a whole cut into parts, one of them unused',
    covers: ['Split'],
    inputs: { a: ['n', 6] },
    build: (graph) => {
      const sizes = graph.int64([2, 2, 2])
      const dims: Dims = ['n', 2]
      const [first, , third] = graph.split('Split', ['a', sizes], [dims, dims, dims], {
        axis: int(1),
      })
      return graph.op('Mul', [first!, third!], dims)
    },
  },
  {
    name: 'softmax',
    covers: ['Softmax'],
    inputs: { a: ['n', 5] },
    build: (graph) => graph.op('Softmax', ['a'], ['n', 5], { axis: int(-1) }),
  },
  {
    name: 'SiLU',
    covers: ['QuickGelu'],
    inputs: { a: ['n', 5] },
    build: (graph) => graph.op('QuickGelu', ['a'], ['n', 5], { alpha: float(1) }),
  },
  {
    name: 'hyperbolic tangent',
    covers: ['Tanh'],
    inputs: { a: ['n', 5] },
    build: (graph) => graph.op('Tanh', ['a'], ['n', 5]),
  },
  {
    name: 'GELU by tanh',
    covers: ['FastGelu'],
    inputs: { a: ['n', 5] },
    build: (graph) => graph.op('FastGelu', ['a'], ['n', 5]),
  },
  {
    name: 'root mean square normalisation',
    covers: ['SimplifiedLayerNormalization'],
    inputs: { a: ['n', 3, 5], w: [5] },
    wanted: ['a'],
    build: (graph) =>
      graph.split(
        'SimplifiedLayerNormalization',
        ['a', 'w'],
        [
          ['n', 3, 5],
          ['n', 3, 1],
        ],
        {
          axis: int(-1),
          epsilon: float(1e-5),
        },
      )[0]!,
  },
  {
    name: 'a sum over an axis',
    covers: ['ReduceSum'],
    inputs: { a: ['n', 5] },
    build: (graph) => {
      const square = graph.op('Mul', ['a', 'a'], ['n', 5])
      return graph.op('ReduceSum', [square, last(graph)], ['n', 1], { keepdims: int(1) })
    },
  },
  {
    name: 'the log of a sum of exponentials',
    covers: ['ReduceLogSumExp'],
    inputs: { a: ['n', 5] },
    build: (graph) =>
      graph.op('ReduceLogSumExp', ['a', last(graph)], ['n', 1], { keepdims: int(1) }),
  },
]

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'arcana-rules-'))
})
afterAll(() => rm(folder, { recursive: true }))

const sizesOf = (dims: Dims): number[] =>
  dims.map((dim) =>
    typeof dim === 'number' ? dim : dim.split('+').reduce((sum, name) => sum + SIZES[name]!, 0),
  )
const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1)

describe('rules of differentiation', () => {
  test.for(CASES)('$name: as finite differences give', async (given, { expect }) => {
    const graph = new ShapedGraph()
    for (const [name, dims] of Object.entries(given.inputs)) graph.input(name, 'float32', dims)
    const output = given.build(graph)
    const outputDims = graph.dimsOf(output)
    graph.input('seed', 'float32', outputDims)
    const wanted = given.wanted ?? Object.keys(given.inputs)
    const gradients = differentiate(graph, new Map([[output, 'seed']]), wanted)
    graph.output('value', output)
    for (const name of wanted) graph.output(`gradient.${name}`, gradients.get(name)!)
    const model = path.join(folder, `${CASES.indexOf(given)}.onnx`)
    await writeFile(model, encodeModel(graph.finish(), 'none'))

    const random = createRng(5)
    const fill = (dims: Dims) => ({
      data: Float32Array.from({ length: product(sizesOf(dims)) }, () => 2 * random() - 1),
      dims: sizesOf(dims),
    })
    const inputs = new Map(Object.entries(given.inputs).map(([name, dims]) => [name, fill(dims)]))
    const seed = fill(outputDims)
    const value = fill(outputDims)
    const found = new Map(wanted.map((name) => [name, fill(given.inputs[name]!)]))
    const session = await openBackend('c-api').backend.createSession(model, {
      numThreads: 1,
      allowSpinning: false,
    })
    const binding = session.createBinding()
    for (const [name, tensor] of inputs) binding.bindInput(name, tensor)
    binding.bindInput('seed', seed)
    binding.bindOutput('value', value)
    for (const [name, tensor] of found) binding.bindOutput(`gradient.${name}`, tensor)
    const lossAt = async (): Promise<number> => {
      await binding.run()
      return value.data.reduce((sum, y, i) => sum + y * seed.data[i]!, 0)
    }
    await lossAt()
    const analytic = new Map([...found].map(([name, { data }]) => [name, data.slice()]))
    for (const name of wanted) {
      const { data } = inputs.get(name)!
      for (let i = 0; i < data.length; i++) {
        const at = data[i]!
        data[i] = at + STEP
        const above = await lossAt()
        data[i] = at - STEP
        const below = await lossAt()
        data[i] = at
        const slope = (above - below) / (2 * STEP)
        expect(Math.abs(analytic.get(name)![i]! - slope)).toBeLessThan(TOLERANCE)
      }
      // A graph that computes nothing would agree on all zeros.
      expect(Math.max(...analytic.get(name)!.map(Math.abs))).toBeGreaterThan(10 * TOLERANCE)
    }
    binding.release()
    session.release()
  })

  test('every rule has a case', ({ expect }) => {
    const covered = new Set(CASES.flatMap(({ covers }) => covers))
    expect([...covered].sort()).toEqual(Object.keys(RULES).sort())
  })

  test('refuses an operator without a rule, by name', ({ expect }) => {
    const graph = new ShapedGraph()
    graph.input('a', 'float32', [2])
    graph.input('seed', 'float32', [2])
    const output = graph.op('Erf', ['a'], [2])
    expect(() => differentiate(graph, new Map([[output, 'seed']]), ['a'])).toThrow(/Erf/)
  })

  test('refuses an input that no output depends on', ({ expect }) => {
    const graph = new ShapedGraph()
    for (const name of ['a', 'b', 'seed']) graph.input(name, 'float32', [2])
    const output = graph.op('Mul', ['a', 'a'], [2])
    expect(() => differentiate(graph, new Map([[output, 'seed']]), ['b'])).toThrow(/depends on b/)
  })
})
