import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { toFloat16Bits } from '../../adapters/format/float16.ts'
import type { AdapterFile } from '../../adapters/format/adapter-file.ts'
import { mergeIntoOutputProjection } from '../../adapters/rotation/merge-into-weights.ts'
import { dequantise, openGguf, type GgufFile, type GgufTensor } from './gguf/index.ts'
import { BLOCK_LAYOUTS, sizeOfElements } from './gguf/tensor-types.ts'
import { layOutGguf, rawEntry, readRawEntries, type RawEntry } from './gguf/write.ts'

export type MergeDtype = 'f32' | 'f16'

const FILE_TYPE_KEY = 'general.file_type'
const ALIGNMENT_KEY = 'general.alignment'
/** llama.cpp's numbers for "all F32" and "mostly F16". */
const FILE_TYPES: Readonly<Record<MergeDtype, number>> = { f32: 0, f16: 1 }
const MAX_FLOAT16 = 65504

export type Merged = { readonly sizeBytes: number; readonly layers: readonly number[] }

/**
 * Writes a copy of a model file with an adapter of scope `all` folded into its output projections.
 * Weights become float32, or float16 with vectors (norms) in float32 as llama.cpp keeps them. The
 * metadata, tokenizer included, keep the source's bytes, but for the file type and two keys that name
 * the adapter and the base. The file gets its name only once it is complete.
 * @param adapter decoded for this model
 * @param adapterDigest SHA-256 of the adapter's file
 * @throws {Error} the scope is not `all`, the target exists, or a merged weight is past float16
 */
export async function mergeAdapter(
  source: string,
  target: string,
  adapter: AdapterFile,
  adapterDigest: string,
  dtype: MergeDtype,
): Promise<Merged> {
  if (adapter.scope !== 'all') {
    throw new Error(
      `an adapter of scope "${adapter.scope}" cannot be merged: weights rotate every position, ` +
        'which is the scope "all" only',
    )
  }
  if (await exists(target)) throw new Error(`${target} exists; it is not overwritten`)
  const { layers } = adapter.rotation
  const file = await openGguf(source)
  try {
    const entries = mergedEntries(await readHeader(source, file), adapter, adapterDigest, dtype)
    const tensors = [...file.tensors.values()]
    const plans = tensors.map((tensor) => {
      const { ggmlId } = BLOCK_LAYOUTS[typeOf(tensor, dtype)]
      return { name: tensor.name, ggmlId, dims: tensor.dims, sizeBytes: sizeOf(tensor, dtype) }
    })
    const alignment = file.metadata.optionalNumber(ALIGNMENT_KEY)
    const layout = layOutGguf(entries, plans, alignment)
    const temporary = `${target}.${process.pid}.tmp`
    const out = await open(temporary, 'wx')
    try {
      await writeAll(out, layout.header, 0)
      for (const [i, tensor] of tensors.entries()) {
        const values = await readValues(file, tensor)
        const layer = layerOfOutputProjection(tensor.name)
        const rotation = layer === null ? undefined : layers.get(layer)
        if (rotation) mergeIntoOutputProjection(values, rotation)
        const bytes = encode(values, typeOf(tensor, dtype), tensor.name)
        await writeAll(out, bytes, layout.offsets[i]!)
      }
      await out.truncate(layout.totalBytes)
      await out.sync()
      await out.close()
      await rename(temporary, target)
    } catch (error) {
      await out.close().catch(() => undefined)
      await rm(temporary, { force: true })
      throw error
    }
    return { sizeBytes: layout.totalBytes, layers: [...layers.keys()].sort((a, b) => a - b) }
  } finally {
    await file.close()
  }
}

function mergedEntries(
  entries: readonly RawEntry[],
  adapter: AdapterFile,
  adapterDigest: string,
  dtype: MergeDtype,
): RawEntry[] {
  const own = [
    rawEntry(FILE_TYPE_KEY, FILE_TYPES[dtype]),
    rawEntry('arcana.adapter_digest', adapterDigest),
    rawEntry('arcana.base_model_digest', adapter.modelDigest),
  ]
  const replaced = new Set(own.map(({ key }) => key))
  return [...entries.filter(({ key }) => !replaced.has(key)), ...own]
}

/** Reads the header's key-value pairs, which end before the first tensor's data. */
async function readHeader(path: string, file: GgufFile): Promise<RawEntry[]> {
  const tensors = [...file.tensors.values()]
  const length = tensors.reduce((least, { offset }) => Math.min(least, offset), file.sizeBytes)
  const handle = await open(path, 'r')
  try {
    const bytes = new Uint8Array(length)
    await handle.read(bytes, 0, length, 0)
    return readRawEntries(bytes)
  } finally {
    await handle.close()
  }
}

const numElements = ({ dims }: GgufTensor): number =>
  dims.reduce((product, dim) => product * dim, 1)

const typeOf = ({ dims }: GgufTensor, dtype: MergeDtype): 'F32' | 'F16' =>
  dtype === 'f32' || dims.length === 1 ? 'F32' : 'F16'

const sizeOf = (tensor: GgufTensor, dtype: MergeDtype): number =>
  sizeOfElements(typeOf(tensor, dtype), numElements(tensor))

async function readValues(file: GgufFile, tensor: GgufTensor): Promise<Float32Array> {
  return dequantise(tensor.type, await file.readTensor(tensor.name), numElements(tensor))
}

/** The layer whose output projection a tensor is, or null. */
function layerOfOutputProjection(name: string): number | null {
  const match = /^blk\.(\d+)\.attn_output\.weight$/.exec(name)
  return match ? Number(match[1]) : null
}

function encode(values: Float32Array, type: 'F32' | 'F16', name: string): Uint8Array {
  if (type === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const bytes = new Uint8Array(2 * values.length)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < values.length; i++) {
    // Negated, so that it is true for NaN too.
    if (!(Math.abs(values[i]!) <= MAX_FLOAT16)) {
      throw new Error(`tensor ${name} has a value of ${values[i]!}, past float16; use --dtype f32`)
    }
    view.setUint16(2 * i, toFloat16Bits(values[i]!), true)
  }
  return bytes
}

/** Writes all bytes; one write call may take fewer than it is given. */
async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
