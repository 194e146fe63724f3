/**
 * What the engine needs of ONNX Runtime: sessions, and bindings whose inputs and outputs stand in
 * buffers the caller owns. Only this folder knows which library call does it.
 */

export type TensorArray = Float32Array | Int32Array | BigInt64Array

/** A view of caller-owned memory as a tensor; `data.length` must equal the product of `dims`. */
export type Tensor = { readonly data: TensorArray; readonly dims: readonly number[] }

/**
 * How long a thread polls before it sleeps, where it may: past the pauses between a decode step's
 * kernels, and far below a time slice, which a poller would take from a thread that has work.
 */
export const SPIN_DURATION_US = 30

export type SessionOptions = {
  readonly numThreads: number
  /**
   * Idle threads poll for a moment before they sleep: faster for few rows where nothing else wants
   * the cores, slower where something does.
   */
  readonly allowSpinning: boolean
  /** Where given, ONNX Runtime writes a profile with this file prefix. */
  readonly profilePrefix?: string
}

/** Inputs and outputs of one call shape. Buffers stay bound until replaced. */
export interface Binding {
  bindInput(name: string, tensor: Tensor): void
  bindOutput(name: string, tensor: Tensor): void
  /** One run; resolves when every bound output's buffer holds its result. */
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
