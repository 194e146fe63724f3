import { open, type FileHandle } from 'node:fs/promises'
import { gguf, GGMLQuantizationType, type GGUFParseOutput } from '@huggingface/gguf'
import { restoreByteOrderMarks } from './byte-order-marks.ts'
import { GgufError } from './errors.ts'
import { GgufMetadata } from './metadata.ts'
import { BLOCK_LAYOUTS, sizeOfElements, tensorTypeOf, type TensorType } from './tensor-types.ts'

/** The largest models have a few thousand tensors; the library's own limit is ten million. */
const MAX_TENSORS = 65_536
const MAX_TENSOR_NAME_LEN = 256
/** GGML's own limit. */
const MAX_TENSOR_DIMS = 4
/** 2^40 elements take a terabyte at 8 bit, more than any file this project opens. */
const MAX_TENSOR_ELEMENTS = 2 ** 40
/** Most bytes of one read call; Linux refuses more than 2 GiB. */
const MAX_READ_BYTES = 1 << 30
/** Entries that the library adds to the file's own. */
const LIBRARY_KEYS: ReadonlySet<string> = new Set(['version', 'tensor_count', 'kv_count'])

export interface GgufTensor {
  readonly name: string
  readonly type: TensorType
  /** Row-major, slowest first: a matrix is [rows, cols]. The reverse of GGUF's own order. */
  readonly dims: readonly number[]
  /** Offset from the start of the file. */
  readonly offset: number
  readonly sizeBytes: number
}

/** An open GGUF file: its header in memory, its tensors read on demand. */
export class GgufFile {
  readonly metadata: GgufMetadata
  readonly tensors: ReadonlyMap<string, GgufTensor>
  readonly sizeBytes: number
  readonly #handle: FileHandle

  constructor(
    handle: FileHandle,
    sizeBytes: number,
    metadata: GgufMetadata,
    tensors: ReadonlyMap<string, GgufTensor>,
  ) {
    this.#handle = handle
    this.sizeBytes = sizeBytes
    this.metadata = metadata
    this.tensors = tensors
  }

  /**
   * The tensor's bytes as stored: whole blocks, little-endian.
   * @throws {GgufError} no such tensor, or a file that became shorter since it was opened
   */
  async readTensor(name: string): Promise<Uint8Array> {
    const tensor = this.tensors.get(name)
    if (!tensor) throw new GgufError(`the file has no tensor ${name}`)
    const bytes = new Uint8Array(tensor.sizeBytes)
    let read = 0
    while (read < bytes.length) {
      const length = Math.min(bytes.length - read, MAX_READ_BYTES)
      const { bytesRead } = await this.#handle.read(bytes, read, length, tensor.offset + read)
      if (bytesRead === 0) throw new GgufError(`the file ended inside tensor ${name}`)
      read += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/**
 * Opens a GGUF file and checks its whole header, so that every tensor in it can be read.
 * @throws {GgufError} not a GGUF file, cut short, inconsistent, or with a tensor of an unsupported type
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    const header = await parseHeader(path)
    // Past the file's end the library reads zeros, so a header that is cut short ends beyond the file.
    const dataOffset = Number(header.tensorDataOffset)
    if (!Number.isSafeInteger(dataOffset) || dataOffset > size) {
      throw new GgufError(`truncated: the header needs ${dataOffset} bytes, the file has ${size}`)
    }
    const metadata = await readMetadata(header, handle, dataOffset)
    return new GgufFile(handle, size, metadata, readTensors(header, dataOffset, size))
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function parseHeader(path: string): Promise<GGUFParseOutput> {
  try {
    return await gguf(path, { allowLocalFile: true })
  } catch (error) {
    // The library's errors (RangeError, Error) are all caused by the file.
    throw new GgufError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}

async function readMetadata(
  header: GGUFParseOutput,
  handle: FileHandle,
  headerSize: number,
): Promise<GgufMetadata> {
  const entries = Object.entries(header.metadata as Record<string, unknown>)
  const values = new Map(entries.filter(([key]) => !LIBRARY_KEYS.has(key)))
  const bytes = new Uint8Array(headerSize)
  await handle.read(bytes, 0, headerSize, 0)
  try {
    restoreByteOrderMarks(bytes, values)
  } catch (error) {
    throw new GgufError('the header contradicts itself', { cause: error })
  }
  return new GgufMetadata(values)
}

function readTensors(
  header: GGUFParseOutput,
  dataOffset: number,
  fileSize: number,
): ReadonlyMap<string, GgufTensor> {
  const { tensorInfos } = header
  if (tensorInfos.length > MAX_TENSORS) {
    throw new GgufError(`${tensorInfos.length} tensors; at most ${MAX_TENSORS} are read`)
  }
  const tensors = new Map<string, GgufTensor>()
  for (const info of tensorInfos) {
    const { name } = info
    if (name === '' || name.length > MAX_TENSOR_NAME_LEN) {
      throw new GgufError(`a tensor's name is empty or over ${MAX_TENSOR_NAME_LEN} characters`)
    }
    if (tensors.has(name)) throw new GgufError(`tensor ${name} appears twice`)
    const type = tensorTypeOf(info.dtype)
    if (!type) {
      const label = GGMLQuantizationType[info.dtype] as string | undefined
      const known = Object.keys(BLOCK_LAYOUTS).join(', ')
      throw new GgufError(
        `tensor ${name} is of type ${label ?? `number ${info.dtype}`}; read here: ${known}`,
      )
    }
    const dims = info.shape.map(Number).reverse()
    const numElements = dims.reduce((product, dim) => product * dim, 1)
    if (
      dims.length < 1 ||
      dims.length > MAX_TENSOR_DIMS ||
      dims.some((dim) => !Number.isSafeInteger(dim) || dim < 1) ||
      numElements > MAX_TENSOR_ELEMENTS
    ) {
      throw new GgufError(`tensor ${name} has impossible dimensions [${dims.join(', ')}]`)
    }
    // Blocks lie along the fastest dimension and never cross the end of a row.
    if (dims.at(-1)! % BLOCK_LAYOUTS[type].elements !== 0) {
      throw new GgufError(`tensor ${name}: rows of ${dims.at(-1)!} are not whole ${type} blocks`)
    }
    const sizeBytes = sizeOfElements(type, numElements)
    const offset = dataOffset + Number(info.offset)
    if (!Number.isSafeInteger(offset) || offset + sizeBytes > fileSize) {
      throw new GgufError(
        `truncated: tensor ${name} ends at byte ${offset + sizeBytes}, the file has ${fileSize}`,
      )
    }
    tensors.set(name, { name, type, dims, offset, sizeBytes })
  }
  return tensors
}
