import type { GgufFile } from '../../model/gguf/index.ts'
import { dequantise } from '../../model/gguf/index.ts'
import {
  quantise8,
  requantiseQ4_0,
  requantiseQ4_1,
  requantiseQ8_0,
  type QuantisedMatrix,
} from './block-quantise.ts'

/** Reads the model file's tensors in the forms that the graph wants. */
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

  /** Several [rows, K] matrices on the same input, stacked along their rows. */
  async stackedFloat32(names: readonly string[]): Promise<Float32Array> {
    const parts = await Promise.all(names.map((name) => this.float32(name)))
    return concatenate(parts, (size) => new Float32Array(size))
  }

  /** The same, block-quantised: 4 bit where every part is Q4_0, else 8 bit. */
  async stackedQuantised(names: readonly string[]): Promise<QuantisedMatrix> {
    const types = names.map((name) => this.#tensor(name).type)
    const parts: QuantisedMatrix[] = []
    for (const [i, name] of names.entries()) {
      const bytes = await this.#file.readTensor(name)
      if (types.every((type) => type === 'Q4_0')) parts.push(requantiseQ4_0(bytes))
      else if (types[i] === 'Q4_1') parts.push(requantiseQ4_1(bytes))
      else if (types[i] === 'Q8_0') parts.push(requantiseQ8_0(bytes))
      else parts.push(quantise8(await this.float32(name)))
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
