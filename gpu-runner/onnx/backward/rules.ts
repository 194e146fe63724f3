import { float, int, ints, type Node } from '../model.ts'
import type { Dims, ShapedGraph } from './shaped-graph.ts'

/** √(2/π), and 0.044715 times it: Hendrycks and Gimpel 2016, arXiv:1606.08415. */
const GELU_LINEAR = Math.sqrt(2 / Math.PI)
const GELU_CUBIC = 0.044715 * GELU_LINEAR

/** What a rule is given about a node. */
export type RuleContext = {
  readonly graph: ShapedGraph
  readonly node: Node
  /** The gradient by each output; null where no result depends on the output. */
  readonly gradients: readonly (string | null)[]
  /** Whether the gradient by an input is needed; the rule may leave out the others. */
  readonly isActive: (input: string) => boolean
}

/**
 * Writes the nodes that turn an operator's output gradients into its inputs' gradients.
 * @returns the gradient by each input; null for inputs that need none
 */
export type Rule = (context: RuleContext) => readonly (string | null)[]

/**
 * The rules of reverse mode, one for each operator. Each rule's comment states y, and the gradient x̄
 * = ȳ·∂y/∂x, with g for ȳ. `unbroadcast` sums over the axes along which an operand was broadcast.
 * Rules write only operators that ONNX Runtime has for inference.
 */
export const RULES: Readonly<Record<string, Rule>> = {
  /** y = a + b. */
  Add: ({ graph, node, gradients, isActive }) =>
    node.inputs.map((input) =>
      isActive(input) ? unbroadcast(graph, gradients[0]!, graph.dimsOf(input)) : null,
    ),

  /** y = a − b. */
  Sub: ({ graph, node, gradients, isActive }) =>
    node.inputs.map((input, i) => {
      if (!isActive(input)) return null
      const g = unbroadcast(graph, gradients[0]!, graph.dimsOf(input))
      return i === 0 ? g : graph.op('Neg', [g], graph.dimsOf(g))
    }),

  /** y = a ⊙ b. */
  Mul: ({ graph, node, gradients, isActive }) =>
    node.inputs.map((input, i) => {
      if (!isActive(input)) return null
      const g = gradients[0]!
      const product = graph.op('Mul', [g, node.inputs[1 - i]!], graph.dimsOf(g))
      return unbroadcast(graph, product, graph.dimsOf(input))
    }),

  /** y = α·a·b, or α·a·bᵀ. b may be one matrix for all of a; a gradient by b is then not supported. */
  FusedMatMul: ({ graph, node, gradients, isActive }) => {
    const [a, b] = node.inputs as [string, string]
    const g = gradients[0]!
    const isTransposed = intOf(node, 'transB') === 1
    const alpha = node.attributes['alpha'] ?? float(1)
    const multiply = (
      left: string,
      right: string,
      dims: Dims,
      transpose: 'transA' | 'transB' | null,
    ) =>
      graph.op('FusedMatMul', [left, right], dims, {
        alpha,
        ...(transpose === null ? {} : { [transpose]: int(1) }),
      })
    const gradientOfA = (): string =>
      multiply(g, b, graph.dimsOf(a), isTransposed ? null : 'transB')
    const gradientOfB = (): string => {
      const dims = graph.dimsOf(b)
      if (!sameDims(graph.dimsOf(a).slice(0, -2), dims.slice(0, -2))) {
        throw new Error(`${node.name}: a gradient by a broadcast matrix is not supported`)
      }
      return isTransposed ? multiply(g, a, dims, 'transA') : multiply(a, g, dims, 'transA')
    }
    return [isActive(a) ? gradientOfA() : null, isActive(b) ? gradientOfB() : null]
  },

  /** y = x with its axes in another order. */
  Transpose: ({ graph, node, gradients }) => {
    const perm = intsOf(node, 'perm')
    const inverse = perm.map((_, axis) => perm.indexOf(axis))
    return [
      graph.op('Transpose', [gradients[0]!], graph.dimsOf(node.inputs[0]!), {
        perm: ints(...inverse),
      }),
    ]
  },

  /** y = x in another shape. */
  Reshape: ({ graph, node, gradients }) => [likeShape(graph, gradients[0]!, node.inputs[0]!), null],

  /** y = the inputs, concatenated along an axis. */
  Concat: ({ graph, node, gradients }) => {
    const axis = intOf(node, 'axis')
    const sizes = node.inputs.map((input) => sizeOf(graph, input, axis))
    const split = graph.op('Concat', sizes, [sizes.length], { axis: int(0) })
    return graph.split(
      'Split',
      [gradients[0]!, split],
      node.inputs.map((input) => graph.dimsOf(input)),
      { axis: int(axis) },
    )
  },

  /** The outputs, concatenated, are x. */
  Split: ({ graph, node, gradients }) => {
    const axis = intOf(node, 'axis')
    const parts = node.outputs.map((output, i) => gradients[i] ?? zerosLike(graph, output))
    const whole = graph.op('Concat', parts, graph.dimsOf(node.inputs[0]!), { axis: int(axis) })
    return [whole, null]
  },

  /** y = e^x / Σ e^x over the last axis: x̄ = y ⊙ (g − Σ g ⊙ y). */
  Softmax: ({ graph, node, gradients }) => {
    checkLastAxis(node)
    const g = gradients[0]!
    const y = node.outputs[0]!
    const dims = graph.dimsOf(y)
    const total = sumLast(graph, graph.op('Mul', [g, y], dims), dims)
    return [graph.op('Mul', [y, graph.op('Sub', [g, total], dims)], dims)]
  },

  /** y = x·σ(x), with α = 1 (SiLU): x̄ = g ⊙ (σ + y ⊙ (1 − σ)). */
  QuickGelu: ({ graph, node, gradients }) => {
    const [x, y] = [node.inputs[0]!, node.outputs[0]!]
    const alpha = node.attributes['alpha']
    if (alpha?.kind !== 'float' || alpha.value !== 1) throw new Error(`${node.name}: α must be 1`)
    const dims = graph.dimsOf(x)
    const sigmoid = graph.op('Sigmoid', [x], dims)
    const one = constant(graph, 'one', 1)
    const rest = graph.op('Sub', [one, sigmoid], dims)
    const slope = graph.op('Add', [sigmoid, graph.op('Mul', [y, rest], dims)], dims)
    return [graph.op('Mul', [gradients[0]!, slope], dims)]
  },

  /** y = tanh x: x̄ = g ⊙ (1 − y²). */
  Tanh: ({ graph, node, gradients }) => {
    const y = node.outputs[0]!
    const dims = graph.dimsOf(y)
    return [graph.op('Mul', [gradients[0]!, oneLessSquare(graph, y)], dims)]
  },

  /**
   * y = ½x·(1 + t) with t = tanh(a·x + b·x³), GELU's usual approximation:
   * x̄ = g ⊙ (½(1 + t) + ½x·(1 − t²)·(a + 3b·x²)).
   */
  FastGelu: ({ graph, node, gradients }) => {
    const x = node.inputs[0]!
    if (node.inputs.length > 1) throw new Error(`${node.name}: a bias is not supported`)
    const dims = graph.dimsOf(x)
    const times = (left: string, right: string): string => graph.op('Mul', [left, right], dims)
    const plus = (left: string, right: string): string => graph.op('Add', [left, right], dims)
    const linear = constant(graph, 'gelu.a', GELU_LINEAR)
    const cubic = constant(graph, 'gelu.b', GELU_CUBIC)
    const square = times(x, x)
    const t = graph.op('Tanh', [times(x, plus(times(square, cubic), linear))], dims)
    const slopeOfArgument = plus(times(square, constant(graph, 'gelu.3b', 3 * GELU_CUBIC)), linear)
    const bend = times(times(x, oneLessSquare(graph, t)), slopeOfArgument)
    const twice = plus(plus(t, constant(graph, 'one', 1)), bend)
    return [times(gradients[0]!, times(twice, constant(graph, 'half', 0.5)))]
  },

  /**
   * y = w ⊙ n with n = x·s and s = 1/√(mean x² + ε), its second output: with v = g ⊙ w,
   * x̄ = s·(v − n·mean(v ⊙ n)). w is a constant of the model.
   */
  SimplifiedLayerNormalization: ({ graph, node, gradients, isActive }) => {
    checkLastAxis(node)
    const [x, w] = node.inputs as [string, string]
    const scale = node.outputs[1]
    if (scale === undefined) throw new Error(`${node.name}: its second output is needed`)
    if (isActive(w)) throw new Error(`${node.name}: a gradient by the weight is not supported`)
    const dims = graph.dimsOf(x)
    const v = graph.op('Mul', [gradients[0]!, w], dims)
    const n = graph.op('Mul', [x, scale], dims)
    const mean = graph.op(
      'ReduceMean',
      [graph.op('Mul', [v, n], dims), graph.int64([-1])],
      [...dims.slice(0, -1), 1],
      { keepdims: int(1) },
    )
    const along = graph.op('Mul', [n, mean], dims)
    const across = graph.op('Sub', [v, along], dims)
    return [graph.op('Mul', [scale, across], dims), null]
  },

  /** y = Σ x over some axes, whose sizes become 1. */
  ReduceSum: ({ graph, node, gradients }) => {
    checkKeepsDims(node)
    const x = node.inputs[0]!
    const shape = graph.op('Shape', [x], [graph.dimsOf(x).length])
    return [graph.op('Expand', [gradients[0]!, shape], graph.dimsOf(x)), null]
  },

  /** y = ln Σ e^x over the last axis, whose size becomes 1: x̄ = g·e^(x − y). */
  ReduceLogSumExp: ({ graph, node, gradients }) => {
    checkKeepsDims(node)
    const [x, y] = [node.inputs[0]!, node.outputs[0]!]
    const dims = graph.dimsOf(x)
    const probabilities = graph.op('Exp', [graph.op('Sub', [x, y], dims)], dims)
    return [graph.op('Mul', [gradients[0]!, probabilities], dims), null]
  },
}

const constant = (graph: ShapedGraph, name: string, value: number): string =>
  graph.float32(name, [1], Float32Array.of(value))

function oneLessSquare(graph: ShapedGraph, value: string): string {
  const dims = graph.dimsOf(value)
  const square = graph.op('Mul', [value, value], dims)
  return graph.op('Sub', [constant(graph, 'one', 1), square], dims)
}

/** Sums a gradient over the axes along which a value of the given dims was broadcast. */
function unbroadcast(graph: ShapedGraph, gradient: string, dims: Dims): string {
  const from = graph.dimsOf(gradient)
  if (sameDims(from, dims)) return gradient
  if (from.length !== dims.length) {
    throw new Error(
      `a value of dims [${dims.join()}] is broadcast to another rank, which is not supported`,
    )
  }
  const axes = dims.flatMap((dim, axis) => (dim === 1 && from[axis] !== 1 ? [axis] : []))
  return graph.op('ReduceSum', [gradient, graph.int64(axes)], dims, { keepdims: int(1) })
}

function likeShape(graph: ShapedGraph, value: string, like: string): string {
  const dims = graph.dimsOf(like)
  const shape = graph.op('Shape', [like], [dims.length])
  return graph.op('Reshape', [value, shape], dims)
}

function zerosLike(graph: ShapedGraph, value: string): string {
  const dims = graph.dimsOf(value)
  return graph.op('ConstantOfShape', [graph.op('Shape', [value], [dims.length])], dims)
}

const sumLast = (graph: ShapedGraph, value: string, dims: Dims): string =>
  graph.op('ReduceSum', [value, graph.int64([-1])], [...dims.slice(0, -1), 1], { keepdims: int(1) })

/** The size of one axis, as a list of one number. */
function sizeOf(graph: ShapedGraph, value: string, axis: number): string {
  const size = graph.dimsOf(value).at(axis)
  if (typeof size === 'number') return graph.int64([size])
  const start = axis < 0 ? graph.dimsOf(value).length + axis : axis
  return graph.op('Shape', [value], [1], { start: int(start), end: int(start + 1) })
}

const sameDims = (a: Dims, b: Dims): boolean =>
  a.length === b.length && a.every((dim, axis) => dim === b[axis])

function intOf(node: Node, name: string): number | undefined
function intOf(node: Node, name: 'axis'): number
function intOf(node: Node, name: string): number | undefined {
  const attribute = node.attributes[name]
  if (attribute === undefined && name !== 'axis') return undefined
  if (attribute?.kind !== 'int') throw new Error(`${node.name}: no attribute ${name}`)
  return attribute.value
}

function intsOf(node: Node, name: string): readonly number[] {
  const attribute = node.attributes[name]
  if (attribute?.kind !== 'ints') throw new Error(`${node.name}: no attribute ${name}`)
  return attribute.value
}

function checkLastAxis(node: Node): void {
  if (intOf(node, 'axis') !== -1) throw new Error(`${node.name}: only the last axis is supported`)
}

function checkKeepsDims(node: Node): void {
  if (intOf(node, 'keepdims') !== 1) throw new Error(`${node.name}: keepdims must be 1`)
}
