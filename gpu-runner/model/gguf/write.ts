import { GgufError } from './errors.ts'
import { FIXED_SIZES, TYPE_ARRAY, TYPE_STRING, TYPE_UINT32 } from './value-types.ts'

const MAGIC = 0x46554747
const VERSION = 3
/** Alignment of offsets where a file's metadata does not name one. */
const DEFAULT_ALIGNMENT = 32

/** A key-value pair; `bytes` are its type and value as the file has them. */
export type RawEntry = { readonly key: string; readonly bytes: Uint8Array }

/**
 * Reads the key-value pairs of a GGUF header, verbatim and in order, so that another file can hold
 * the same bytes. Parsing the values and writing them again could change them.
 * @param header at least the file's bytes up to its first tensor description
 * @throws {GgufError} not a little-endian GGUF of version 2 or 3, or one cut short
 * Source: ggml/docs/gguf.md
 */
export function readRawEntries(header: Uint8Array): RawEntry[] {
  const reader = new Reader(header)
  if (reader.u32() !== MAGIC) throw new GgufError('not a GGUF file')
  const version = reader.u32()
  if (version !== 2 && version !== 3) throw new GgufError(`GGUF version ${version} is not read`)
  reader.u64()
  const numEntries = reader.u64()
  const entries: RawEntry[] = []
  for (let i = 0; i < numEntries; i++) {
    const key = reader.string()
    const from = reader.at
    reader.skipValue(reader.u32())
    entries.push({ key, bytes: header.slice(from, reader.at) })
  }
  return entries
}

/** Makes an entry of a string or an unsigned 32-bit number. */
export function rawEntry(key: string, value: string | number): RawEntry {
  if (typeof value === 'number') return { key, bytes: concat([u32(TYPE_UINT32), u32(value)]) }
  return { key, bytes: concat([u32(TYPE_STRING), string(value)]) }
}

/** A tensor that is to be written. */
export type TensorPlan = {
  readonly name: string
  /** GGML's type number. */
  readonly ggmlId: number
  /** Row-major, slowest first. */
  readonly dims: readonly number[]
  readonly sizeBytes: number
}

export type GgufLayout = {
  /** All bytes before the tensors' data, padded. */
  readonly header: Uint8Array
  /** Each tensor's offset from the start of the file. */
  readonly offsets: readonly number[]
  readonly totalBytes: number
}

/** Writes the header of a file with these entries and tensors, and says where each tensor's bytes go. */
export function layOutGguf(
  entries: readonly RawEntry[],
  tensors: readonly TensorPlan[],
  alignment = DEFAULT_ALIGNMENT,
): GgufLayout {
  const parts: Uint8Array[] = [u32(MAGIC), u32(VERSION), u64(tensors.length), u64(entries.length)]
  for (const { key, bytes } of entries) parts.push(string(key), bytes)
  const relative: number[] = []
  let dataBytes = 0
  for (const { name, ggmlId, dims, sizeBytes } of tensors) {
    relative.push(dataBytes)
    const order = [...dims].reverse()
    parts.push(string(name), u32(order.length), ...order.map(u64), u32(ggmlId), u64(dataBytes))
    dataBytes += padTo(sizeBytes, alignment)
  }
  const bare = concat(parts)
  const header = new Uint8Array(padTo(bare.length, alignment))
  header.set(bare)
  return {
    header,
    offsets: relative.map((offset) => header.length + offset),
    totalBytes: header.length + dataBytes,
  }
}

class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  u64(): number {
    const value = Number(this.#view.getBigUint64(this.#take(8), true))
    if (!Number.isSafeInteger(value)) throw new GgufError('a count is past 2^53')
    return value
  }

  string(): string {
    const length = this.u64()
    const from = this.#take(length)
    return new TextDecoder().decode(this.#bytes.subarray(from, from + length))
  }

  skipValue(type: number): void {
    if (type === TYPE_STRING) {
      this.#take(this.u64())
      return
    }
    if (type !== TYPE_ARRAY) {
      this.#take(fixedSize(type))
      return
    }
    const itemType = this.u32()
    const length = this.u64()
    if (itemType === TYPE_STRING || itemType === TYPE_ARRAY) {
      for (let i = 0; i < length; i++) this.skipValue(itemType)
    } else this.#take(length * fixedSize(itemType))
  }

  #take(length: number): number {
    const from = this.at
    if (from + length > this.#bytes.length) throw new GgufError('the header is cut short')
    this.at += length
    return from
  }
}

function fixedSize(type: number): number {
  const size = FIXED_SIZES[type]
  if (size === undefined) throw new GgufError(`metadata has a value of unknown type ${type}`)
  return size
}

const padTo = (length: number, alignment: number): number =>
  Math.ceil(length / alignment) * alignment

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true)
  return bytes
}

function string(value: string): Uint8Array {
  const text = new TextEncoder().encode(value)
  return concat([u64(text.length), text])
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
