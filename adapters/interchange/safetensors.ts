import { fromFloat16Bits } from '../format/float16.ts'
import { MAX_ADAPTER_BYTES, MAX_HEADER_BYTES } from '../format/limits.ts'
import { parseStrictJson, type StrictJson } from '../format/strict-json.ts'

/** A float tensor of a safetensors file, row-major. */
export type FloatTensor = {
  readonly name: string
  readonly dims: readonly number[]
  readonly values: Float32Array
}

export type FloatTensors = {
  readonly metadata: ReadonlyMap<string, string>
  readonly tensors: readonly FloatTensor[]
}

const PREFIX_BYTES = 8
/** Readers may map the data in place, so it starts at a multiple of 8 bytes. */
const DATA_ALIGNMENT = 8
/** Most dimensions of a tensor; OFT's have two. */
const MAX_DIMS = 4

type Reader = (view: DataView, at: number) => number
const READERS: Readonly<Record<string, { readonly sizeBytes: number; readonly read: Reader }>> = {
  F32: { sizeBytes: 4, read: (view, at) => view.getFloat32(at, true) },
  F16: { sizeBytes: 2, read: (view, at) => fromFloat16Bits(view.getUint16(at, true)) },
  BF16: { sizeBytes: 2, read: (view, at) => fromBfloat16Bits(view.getUint16(at, true)) },
}

/**
 * Writes float32 tensors as a safetensors file, in the order of `tensors`.
 * Source: github.com/huggingface/safetensors, README, "Format"
 */
export function writeFloatTensors(
  metadata: Readonly<Record<string, string>>,
  tensors: readonly FloatTensor[],
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: metadata }
  let dataBytes = 0
  for (const { name, dims, values } of tensors) {
    const end = dataBytes + 4 * values.length
    header[name] = { dtype: 'F32', shape: dims, data_offsets: [dataBytes, end] }
    dataBytes = end
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const headerLen = Math.ceil(json.length / DATA_ALIGNMENT) * DATA_ALIGNMENT
  const bytes = new Uint8Array(PREFIX_BYTES + headerLen + dataBytes)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(headerLen), true)
  bytes.fill(0x20, PREFIX_BYTES, PREFIX_BYTES + headerLen)
  bytes.set(json, PREFIX_BYTES)
  let at = PREFIX_BYTES + headerLen
  for (const { values } of tensors) {
    for (const value of values) {
      view.setFloat32(at, value, true)
      at += 4
    }
  }
  return bytes
}

/**
 * Reads all tensors of a safetensors file from outside. It never throws.
 * @returns tensors of F32, F16 or BF16, widened to float32, with unchecked values; or the first fault
 */
export function readFloatTensors(bytes: Uint8Array): FloatTensors | { readonly fault: string } {
  if (bytes.length > MAX_ADAPTER_BYTES) {
    return { fault: `the file has ${bytes.length} bytes; at most ${MAX_ADAPTER_BYTES} are allowed` }
  }
  const header = readHeader(bytes)
  if ('fault' in header) return header
  const { entries, dataAt } = header
  const metadata = new Map<string, string>()
  const placed: { name: string; dtype: string; dims: number[]; begin: number; end: number }[] = []
  for (const [name, entry] of entries) {
    if (!(entry instanceof Map)) return { fault: `${show(name)} is not an object` }
    if (name === '__metadata__') {
      for (const [key, value] of entry as ReadonlyMap<string, StrictJson>) {
        if (typeof value !== 'string') return { fault: 'a value of __metadata__ is not a string' }
        metadata.set(key, value)
      }
      continue
    }
    const tensor = readEntry(name, entry as ReadonlyMap<string, StrictJson>)
    if ('fault' in tensor) return tensor
    placed.push({ name, ...tensor })
  }
  let expected = 0
  for (const { name, begin, end } of [...placed].sort((a, b) => a.begin - b.begin)) {
    if (begin !== expected) return { fault: `${show(name)} begins at ${begin}, not at ${expected}` }
    expected = end
  }
  if (expected !== bytes.length - dataAt) {
    return {
      fault: `the file has ${bytes.length - dataAt} bytes of data, but the header describes ${expected}`,
    }
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const tensors = placed.map(({ name, dtype, dims, begin, end }) => {
    const { sizeBytes, read } = READERS[dtype]!
    const values = new Float32Array((end - begin) / sizeBytes)
    for (let i = 0; i < values.length; i++) values[i] = read(view, dataAt + begin + i * sizeBytes)
    return { name, dims, values }
  })
  return { metadata, tensors }
}

function readHeader(
  bytes: Uint8Array,
):
  | { readonly entries: ReadonlyMap<string, StrictJson>; readonly dataAt: number }
  | { readonly fault: string } {
  if (bytes.length < PREFIX_BYTES) return { fault: 'the file is too short for safetensors' }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const headerLen = view.getBigUint64(0, true)
  if (headerLen > BigInt(MAX_HEADER_BYTES))
    return { fault: `the header has more than ${MAX_HEADER_BYTES} bytes` }
  const dataAt = PREFIX_BYTES + Number(headerLen)
  if (dataAt > bytes.length) return { fault: 'the file ends inside its header' }
  let text: string
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    text = decoder.decode(bytes.slice(PREFIX_BYTES, dataAt))
  } catch {
    return { fault: 'the header is not UTF-8' }
  }
  const parsed = parseStrictJson(text)
  if ('fault' in parsed) return { fault: `the header is not valid JSON: ${parsed.fault}` }
  if (!(parsed.value instanceof Map)) return { fault: 'the header is not an object' }
  return { entries: parsed.value as ReadonlyMap<string, StrictJson>, dataAt }
}

function readEntry(
  name: string,
  entry: ReadonlyMap<string, StrictJson>,
):
  | {
      readonly dtype: string
      readonly dims: number[]
      readonly begin: number
      readonly end: number
    }
  | { readonly fault: string } {
  const dtype = entry.get('dtype')
  const dims = wholeNumbers(entry.get('shape'))
  const offsets = wholeNumbers(entry.get('data_offsets'))
  if (typeof dtype !== 'string' || !Object.hasOwn(READERS, dtype)) {
    return { fault: `${show(name)} has a dtype other than ${Object.keys(READERS).join(', ')}` }
  }
  if (dims === null || dims.length > MAX_DIMS || offsets?.length !== 2) {
    return { fault: `${show(name)} has no valid shape and data_offsets` }
  }
  const [begin, end] = offsets as [number, number]
  const size = dims.reduce((product, dim) => product * dim, READERS[dtype]!.sizeBytes)
  if (end - begin !== size) return { fault: `${show(name)}: data_offsets do not span the shape` }
  return { dtype, dims, begin, end }
}

function wholeNumbers(value: StrictJson | undefined): number[] | null {
  if (!Array.isArray(value)) return null
  const items = value as readonly StrictJson[]
  return items.every((item) => typeof item === 'number') ? [...items] : null
}

const scratch = new DataView(new ArrayBuffer(4))

/** bfloat16 is the upper half of a float32. */
function fromBfloat16Bits(bits: number): number {
  scratch.setUint32(0, bits << 16)
  return scratch.getFloat32(0)
}

const show = (text: string): string => JSON.stringify(text.slice(0, 64))
