import {
  MICROSOFT_DOMAIN,
  type Attribute,
  type ElementType,
  type Graph,
  type Initializer,
  type Node,
  type ValueInfo,
} from '../model.ts'
import type { WeightFile } from '../weight-file.ts'

/** Collects nodes and weights of one graph; values are named after the node that makes them. */
export class GraphBuilder {
  readonly weights: WeightFile
  readonly #nodes: Node[] = []
  readonly #inputs: ValueInfo[] = []
  readonly #outputs: ValueInfo[] = []
  readonly #initializers = new Map<string, Initializer>()

  constructor(weights: WeightFile) {
    this.weights = weights
  }

  input(name: string, type: ElementType, dims: readonly (number | string)[]): string {
    this.#inputs.push({ name, type, dims })
    return name
  }

  output(name: string, type: ElementType, dims: readonly (number | string)[]): void {
    this.#outputs.push({ name, type, dims })
  }

  /** A tensor in the external data file. */
  async weight(
    name: string,
    type: ElementType,
    dims: readonly number[],
    values: ArrayBufferView,
  ): Promise<string> {
    this.#initializers.set(name, await this.weights.write(name, type, dims, values))
    return name
  }

  /** The bytes of a tensor already written, under another name and shape. */
  alias(name: string, source: string, dims: readonly number[]): string {
    const initializer = this.#initializers.get(source)
    if (!initializer) throw new Error(`no weight ${source} to alias`)
    this.#initializers.set(name, { ...initializer, name, dims })
    return name
  }

  /** A small constant, kept in the model file; equal names are one. */
  int64(name: string, values: readonly number[]): string {
    const data = BigInt64Array.from(values.map(BigInt))
    this.#initializers.set(name, {
      name,
      type: 'int64',
      dims: [values.length],
      bytes: new Uint8Array(data.buffer),
    })
    return name
  }

  /** Adds a node with one output, named like the node. */
  op(
    opType: string,
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): string {
    this.node(opType, name, inputs, [name], attributes, domain)
    return name
  }

  node(
    opType: string,
    name: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): void {
    this.#nodes.push({ name, opType, domain, inputs, outputs, attributes })
  }

  /** An operator of ONNX Runtime's own domain. */
  contrib(
    opType: string,
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string {
    return this.op(opType, name, inputs, attributes, MICROSOFT_DOMAIN)
  }

  finish(): Graph {
    return {
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: [...this.#initializers.values()],
    }
  }
}
