/** GGUF's value types. Source: ggml/docs/gguf.md, gguf_metadata_value_type */
const SCALAR_BYTES: Readonly<Record<number, number>> = {
  0: 1, // uint8
  1: 1, // int8
  2: 2, // uint16
  3: 2, // int16
  4: 4, // uint32
  5: 4, // int32
  6: 4, // float32
  7: 1, // bool
  10: 8, // uint64
  11: 8, // int64
  12: 8, // float64
}
const STRING = 8
const ARRAY = 9
/** Magic, version, number of tensors, number of pairs. */
const PAIRS_AT = 24
const NUM_PAIRS_AT = 16
/** From version 2 on, lengths have 64 bits. */
const MIN_VERSION = 2
const MARK = '\ufeff'

/**
 * Puts back what the library's text decoder takes away: a byte order mark at the start of a string.
 * Vocabularies have tokens that begin with one, and without it two tokens read alike.
 * @param header the file's bytes up to its tensors, which the library has read without complaint
 * @param metadata the library's values by key; arrays in it are changed
 * @throws {RangeError} a header that ends inside a pair
 */
export function restoreByteOrderMarks(header: Uint8Array, metadata: Map<string, unknown>): void {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength)
  // A big-endian file has its version in the upper bytes, and no vocabulary known here.
  const version = view.getUint32(4, true)
  if (version < MIN_VERSION || version > 0xffff) return
  let at = PAIRS_AT
  const size = (): number => {
    const value = Number(view.getBigUint64(at, true))
    at += 8
    return value
  }
  const type = (): number => {
    at += 4
    return view.getUint32(at - 4, true)
  }
  /** Skips a string. @returns whether it begins with a mark */
  const skipString = (): boolean => {
    const length = size()
    const start = at
    at += length
    if (at > header.length) throw new RangeError('the header ends inside a string')
    return (
      length >= 3 &&
      header[start] === 0xef &&
      header[start + 1] === 0xbb &&
      header[start + 2] === 0xbf
    )
  }
  const utf8 = new TextDecoder('utf-8')
  const numPairs = Number(view.getBigUint64(NUM_PAIRS_AT, true))
  for (let pair = 0; pair < numPairs; pair++) {
    const keyLength = size()
    const key = utf8.decode(header.subarray(at, at + keyLength))
    at += keyLength
    restoreValue(key, type())
  }

  function restoreValue(key: string, valueType: number): void {
    const value = metadata.get(key)
    if (valueType === STRING) {
      if (skipString() && typeof value === 'string') metadata.set(key, MARK + value)
    } else if (valueType === ARRAY) {
      restoreArray(Array.isArray(value) ? value : [])
    } else {
      at += SCALAR_BYTES[valueType] ?? 0
    }
  }

  function restoreArray(items: unknown[]): void {
    const itemType = type()
    const length = size()
    if (itemType === STRING) {
      for (let i = 0; i < length; i++) {
        const item = items[i]
        if (skipString() && typeof item === 'string') items[i] = MARK + item
      }
    } else if (itemType === ARRAY) {
      for (let i = 0; i < length; i++) {
        const item = items[i]
        restoreArray(Array.isArray(item) ? item : [])
      }
    } else {
      at += length * (SCALAR_BYTES[itemType] ?? 0)
    }
  }
}
