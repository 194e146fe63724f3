/**
 * The part of ONNX Runtime that the engine uses: sessions, and bindings whose inputs and outputs
 * stand in buffers that the caller owns. Only this folder calls the library.
 */

export type TensorArray = Float32Array | Int32Array | BigInt64Array

/** A tensor in the caller's memory; `data.length` must equal the product of `dims`. */
export type Tensor = { readonly data: TensorArray; readonly dims: readonly number[] }

/**
 * How long an idle thread polls before it sleeps, if it may. It is longer than the pauses between a
 * decode step's kernels, and far shorter than a time slice, which a polling thread would take from
 * one with work.
 */
export const SPIN_DURATION_US = 30

export type SessionOptions = {
  readonly numThreads: number
  /**
   * Whether idle threads poll for a moment before they sleep. That is faster for few rows if nothing
   * else needs the cores, and slower otherwise.
   */
  readonly allowSpinning: boolean
  /** If given, ONNX Runtime writes a profile to a file with this prefix. */
  readonly profilePrefix?: string
}

/** Inputs and outputs of one shape of call. Buffers stay bound until others replace them. */
export interface Binding {
  bindInput(name: string, tensor: Tensor): void
  bindOutput(name: string, tensor: Tensor): void
  /** Runs the graph; resolves once every bound output's buffer holds its result. */
  run(): Promise<void>
  release(): void
}

export interface Session {
  createBinding(): Binding
  release(): void
}

export interface Backend {
  readonly name: 'c-api' | 'js-binding'
  createSession(modelPath: string, options: SessionOptions): Promise<Session>
}

/** @throws {RangeError} data does not fill dims */
export function checkTensor(name: string, tensor: Tensor): void {
  const size = tensor.dims.reduce((product, dim) => product * dim, 1)
  if (size !== tensor.data.length) {
    throw new RangeError(
      `tensor ${name}: ${tensor.data.length} values for dims [${tensor.dims.join(', ')}]`,
    )
  }
}
