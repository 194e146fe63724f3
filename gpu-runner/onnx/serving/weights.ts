import type { GgufFile, TensorType } from '../../model/gguf/index.ts'
import { dequantise } from '../../model/gguf/index.ts'
import {
  quantise8,
  requantiseAffine,
  requantiseQ4_0,
  requantiseQ5_0,
  requantiseQ8_0,
  type QuantisedMatrix,
} from './block-quantise.ts'

/** Reads the model file's tensors in the forms that the graph needs. */
export class SourceWeights {
  readonly #file: GgufFile

  constructor(file: GgufFile) {
    this.#file = file
  }

  has(name: string): boolean {
    return this.#file.tensors.has(name)
  }

  /** @returns the tensor's values, row-major */
  async float32(name: string): Promise<Float32Array> {
    const tensor = this.#tensor(name)
    return dequantise(tensor.type, await this.#file.readTensor(name), sizeOf(tensor.dims))
  }

  /** Reads several [rows, K] matrices of the same input, stacked along their rows. */
  async stackedFloat32(names: readonly string[]): Promise<Float32Array> {
    const parts = await Promise.all(names.map((name) => this.float32(name)))
    return concatenate(parts, (size) => new Float32Array(size))
  }

  /**
   * As {@link stackedFloat32}, but block-quantised: to 4 bit where every part is Q4_0, else to 8 bit.
   */
  async stackedQuantised(names: readonly string[]): Promise<QuantisedMatrix> {
    const tensors = names.map((name) => this.#tensor(name))
    const isFourBit = tensors.every(({ type }) => type === 'Q4_0')
    const parts: QuantisedMatrix[] = []
    for (const { name, type, dims } of tensors) {
      const bytes = await this.#file.readTensor(name)
      parts.push(isFourBit ? requantiseQ4_0(bytes) : requantise8(type, bytes, sizeOf(dims)))
    }
    return {
      bits: parts[0]!.bits,
      codes: concatenate(
        parts.map((part) => part.codes),
        (size) => new Uint8Array(size),
      ),
      scales: concatenate(
        parts.map((part) => part.scales),
        (size) => new Float32Array(size),
      ),
    }
  }

  numRows(name: string): number {
    return this.#tensor(name).dims[0]!
  }

  #tensor(name: string) {
    const tensor = this.#file.tensors.get(name)
    if (!tensor) throw new Error(`the model file has no tensor ${name}`)
    return tensor
  }
}

/** Converts a tensor's weights to 8 bit, in the way that loses least for its type. */
function requantise8(type: TensorType, bytes: Uint8Array, numWeights: number): QuantisedMatrix {
  switch (type) {
    case 'Q8_0':
      return requantiseQ8_0(bytes)
    case 'Q5_0':
      return requantiseQ5_0(bytes, numWeights)
    case 'Q4_1':
    case 'Q5_1':
    case 'Q4_K':
    case 'Q5_K':
      return requantiseAffine(type, bytes, numWeights)
    default:
      return quantise8(dequantise(type, bytes, numWeights))
  }
}

const sizeOf = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1)

function concatenate<T extends Float32Array | Uint8Array>(
  parts: readonly T[],
  create: (size: number) => T,
): T {
  if (parts.length === 1) return parts[0]!
  const whole = create(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
