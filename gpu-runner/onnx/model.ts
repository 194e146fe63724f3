/**
 * A small description of an ONNX model. The builders make it, and `serde` turns it into bytes.
 * Initializers refer to one external data file, so that weights are never in memory twice.
 */

export const MICROSOFT_DOMAIN = 'com.microsoft'

export type ElementType = 'float32' | 'uint8' | 'int8' | 'int32' | 'int64'

export type Attribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }

export const int = (value: number): Attribute => ({ kind: 'int', value })
export const float = (value: number): Attribute => ({ kind: 'float', value })
export const ints = (...value: number[]): Attribute => ({ kind: 'ints', value })

/**
 * A node's inputs and outputs are names of values. An empty name is an absent input or an unused
 * output.
 */
export type Node = {
  readonly name: string
  readonly opType: string
  readonly domain: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
}

/** A dim is a number, or a name where it varies between runs. */
export type ValueInfo = {
  readonly name: string
  readonly type: ElementType
  readonly dims: readonly (number | string)[]
}

export type Initializer = {
  readonly name: string
  readonly type: ElementType
  readonly dims: readonly number[]
  /** Whether its bytes are in the model file, or at an offset of the external data file. */
  readonly bytes: Uint8Array | { readonly offset: number; readonly length: number }
}

export type Graph = {
  readonly nodes: readonly Node[]
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  readonly initializers: readonly Initializer[]
  /** Types of inner values, where they are known; ONNX Runtime infers the others. */
  readonly values?: readonly ValueInfo[]
}
