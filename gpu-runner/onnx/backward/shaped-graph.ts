import {
  MICROSOFT_DOMAIN,
  type Attribute,
  type Graph,
  type Initializer,
  type Node,
  type ValueInfo,
} from '../model.ts'
import { GraphBuilder } from '../serving/graph-builder.ts'

/** A size that is fixed, or the name of one that varies between runs. */
export type Dims = readonly (number | string)[]

const CONTRIB_OPERATORS: ReadonlySet<string> = new Set(['FastGelu', 'FusedMatMul', 'QuickGelu'])

const isShape = (opType: string): boolean => opType === 'Shape'
/** Operators that make float values from a shape. */
const isFill = (opType: string): boolean => opType === 'ConstantOfShape'

/**
 * A graph under construction that knows the dims of every float value. The rules of differentiation
 * need them, since a gradient has its value's dims even if the value was broadcast. The caller states
 * the dims; ONNX Runtime refuses a graph in which they are wrong.
 */
export class ShapedGraph {
  readonly #builder = new GraphBuilder(null)
  readonly #dims = new Map<string, Dims>()
  /** Types of values other than float32. */
  readonly #int64s = new Set<string>()
  readonly #values: ValueInfo[] = []
  #numValues = 0

  get nodes(): readonly Node[] {
    return this.#builder.nodes
  }

  /** @throws {Error} an undeclared value */
  dimsOf(value: string): Dims {
    const dims = this.#dims.get(value)
    if (!dims) throw new Error(`the dims of ${value} are not known`)
    return dims
  }

  input(name: string, type: 'float32' | 'int64', dims: Dims): string {
    this.#dims.set(name, dims)
    if (type === 'int64') this.#int64s.add(name)
    return this.#builder.input(name, type, dims)
  }

  output(name: string, value: string): void {
    this.#builder.op('Identity', name, [value])
    this.#builder.output(name, 'float32', this.dimsOf(value))
  }

  /** Adds a tensor of the data file in this graph's folder. */
  weight(initializer: Initializer): string {
    this.#dims.set(initializer.name, initializer.dims)
    return this.#builder.external(initializer)
  }

  float32(name: string, dims: readonly number[], values: Float32Array): string {
    this.#dims.set(name, dims)
    return this.#builder.float32(name, dims, values)
  }

  /** Adds a constant list of integers: axes, sizes or a shape. */
  int64(values: readonly number[]): string {
    const name = this.#builder.int64(`int64[${values.join(',')}]`, values)
    this.#int64s.add(name)
    return name
  }

  /** Adds a node with one output of the given dims. @returns the output's name */
  op(
    opType: string,
    inputs: readonly string[],
    dims: Dims,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string {
    return this.split(opType, inputs, [dims], attributes)[0]!
  }

  /** Adds a node with several outputs. */
  split(
    opType: string,
    inputs: readonly string[],
    outputDims: readonly Dims[],
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string[] {
    const name = `${opType}_${this.#numValues++}`
    const isInt64 = isShape(opType) || (!isFill(opType) && this.#int64s.has(inputs[0]!))
    const outputs = outputDims.map((dims, i) => {
      const output = outputDims.length === 1 ? name : `${name}.${i}`
      this.#dims.set(output, dims)
      if (isInt64) this.#int64s.add(output)
      else this.#values.push({ name: output, type: 'float32', dims })
      return output
    })
    const domain = CONTRIB_OPERATORS.has(opType) ? MICROSOFT_DOMAIN : ''
    this.#builder.node(opType, name, inputs, outputs, attributes, domain)
    return outputs
  }

  /**
   * The graph, with the dims of its values. ONNX Runtime infers only a few of them and needs them to
   * reuse buffers: without them it takes four times as long to plan and load a decoder's training
   * graph.
   */
  finish(): Graph {
    return { ...this.#builder.finish(), values: this.#values }
  }
}
