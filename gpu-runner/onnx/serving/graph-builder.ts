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

/** Collects the nodes and weights of a graph. A value is named after the node that makes it. */
export class GraphBuilder {
  readonly #weights: WeightFile | null
  readonly #nodes: Node[] = []
  readonly #inputs: ValueInfo[] = []
  readonly #outputs: ValueInfo[] = []
  readonly #initializers = new Map<string, Initializer>()

  /** @param weights null for a graph whose weights another build has written */
  constructor(weights: WeightFile | null) {
    this.#weights = weights
  }

  get nodes(): readonly Node[] {
    return this.#nodes
  }

  input(name: string, type: ElementType, dims: readonly (number | string)[]): string {
    this.#inputs.push({ name, type, dims })
    return name
  }

  output(name: string, type: ElementType, dims: readonly (number | string)[]): void {
    this.#outputs.push({ name, type, dims })
  }

  /** Adds a tensor, whose bytes are written to the external data file. */
  async weight(
    name: string,
    type: ElementType,
    dims: readonly number[],
    values: ArrayBufferView,
  ): Promise<string> {
    if (this.#weights === null)
      throw new Error(`this graph has no weights file to write ${name} to`)
    this.#initializers.set(name, await this.#weights.write(name, type, dims, values))
    return name
  }

  /** Adds a tensor that another graph's build has written to the same data file. */
  external(initializer: Initializer): string {
    this.#initializers.set(initializer.name, initializer)
    return initializer.name
  }

  /** Adds a tensor with the bytes of one already written, under another name and shape. */
  alias(name: string, source: string, dims: readonly number[]): string {
    const initializer = this.#initializers.get(source)
    if (!initializer) throw new Error(`there is no weight ${source} to alias`)
    this.#initializers.set(name, { ...initializer, name, dims })
    return name
  }

  /** Adds a small constant, kept in the model file. The same name twice is one constant. */
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

  /** Adds a small constant matrix, kept in the model file. The same name twice is one constant. */
  float32(name: string, dims: readonly number[], values: Float32Array): string {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    this.#initializers.set(name, { name, type: 'float32', dims, bytes })
    return name
  }

  /** Adds a node with one output, which has the node's name. */
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

  /** Adds a node with an operator of ONNX Runtime's own domain. */
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
