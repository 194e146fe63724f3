import { open, type FileHandle } from 'node:fs/promises'
import type { ElementType, Initializer } from './model.ts'

/** Page size, so that the loader can map a tensor without copying it. */
const ALIGNMENT = 4096

/** Appends tensors to an external data file and says where each one is. */
export class WeightFile {
  readonly #file: FileHandle
  #offset = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async create(path: string): Promise<WeightFile> {
    return new WeightFile(await open(path, 'w'))
  }

  /** @returns an initializer that refers to the bytes just written */
  async write(
    name: string,
    type: ElementType,
    dims: readonly number[],
    values: ArrayBufferView,
  ): Promise<Initializer> {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    const offset = Math.ceil(this.#offset / ALIGNMENT) * ALIGNMENT
    await this.#file.write(bytes, 0, bytes.length, offset)
    this.#offset = offset + bytes.length
    return { name, type, dims, bytes: { offset, length: bytes.length } }
  }

  async close(): Promise<void> {
    await this.#file.sync()
    await this.#file.close()
  }
}
