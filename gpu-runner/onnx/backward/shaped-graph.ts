import {
  MICROSOFT_DOMAIN,
  type Attribute,
  type Graph,
  type Initializer,
  type Node,
} from '../model.ts'
import { GraphBuilder } from '../build/graph-builder.ts'

/** A size that is fixed, or the name of one that varies between runs. */
export type Dims = readonly (number | string)[]

const CONTRIB_OPERATORS: ReadonlySet<string> = new Set(['FastGelu', 'FusedMatMul', 'QuickGelu'])

/**
 * A graph under construction that knows every float value's dims, which the rules of differentiation
 * ask for: a gradient has its value's dims, also where the value was broadcast. The writer states
 * the dims; ONNX Runtime would refuse the graph where they are wrong in a way that matters.
 */
export class ShapedGraph {
  readonly #builder = new GraphBuilder(null)
  readonly #dims = new Map<string, Dims>()
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
    return this.#builder.int64(`int64[${values.join(',')}]`, values)
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
    const outputs = outputDims.map((dims, i) => {
      const output = outputDims.length === 1 ? name : `${name}.${i}`
      this.#dims.set(output, dims)
      return output
    })
    const domain = CONTRIB_OPERATORS.has(opType) ? MICROSOFT_DOMAIN : ''
    this.#builder.node(opType, name, inputs, outputs, attributes, domain)
    return outputs
  }

  finish(): Graph {
    return this.#builder.finish()
  }
}
