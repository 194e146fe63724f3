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
/** Made from a shape, and of floats. */
const isFill = (opType: string): boolean => opType === 'ConstantOfShape'

/**
 * A graph under construction that knows every float value's dims, which the rules of differentiation
 * ask for: a gradient has its value's dims, also where the value was broadcast. The writer states
 * the dims; ONNX Runtime would refuse the graph where they are wrong in a way that matters.
 */
export class ShapedGraph {
  readonly #builder = new GraphBuilder(null)
  readonly #dims = new Map<string, Dims>()
  /** What is not here is float32. */
  readonly #int64s = new Set<string>()
  readonly #values: ValueInfo[] = []
  #numValues = 0

  get nodes(): readonly Node[] {
    return this.#builder.nodes
  }

  /** @throws {Error} a value that was never declared */
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

  /** A tensor of the data file beside this graph. */
  weight(initializer: Initializer): string {
    this.#dims.set(initializer.name, initializer.dims)
    return this.#builder.external(initializer)
  }

  float32(name: string, dims: readonly number[], values: Float32Array): string {
    this.#dims.set(name, dims)
    return this.#builder.float32(name, dims, values)
  }

  /** A constant list of integers: axes, sizes, a shape. */
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
   * The graph, with the dims of its values. ONNX Runtime infers those of a few only, and looks for a
   * buffer to use again among all that it knows too little of: without them a decoder's training
   * graph takes it four times as long to plan and load.
   */
  finish(): Graph {
    return { ...this.#builder.finish(), values: this.#values }
  }
}
