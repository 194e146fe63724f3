import { FIXED_SIZES, TYPE_ARRAY, TYPE_STRING } from './value-types.ts'

/** Magic, version, number of tensors, number of pairs. */
const PAIRS_AT = 24
const NUM_PAIRS_AT = 16
/** From version 2 on, lengths have 64 bits. */
const MIN_VERSION = 2
const MARK = '\ufeff'

/**
 * Restores byte order marks at the start of strings, which the library's text decoder removes.
 * Vocabularies have tokens that begin with one, and without it two tokens would be equal.
 * @param header the file's bytes up to its tensors, which the library has read without an error
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
    if (valueType === TYPE_STRING) {
      if (skipString() && typeof value === 'string') metadata.set(key, MARK + value)
    } else if (valueType === TYPE_ARRAY) {
      restoreArray(Array.isArray(value) ? value : [])
    } else {
      at += FIXED_SIZES[valueType] ?? 0
    }
  }

  function restoreArray(items: unknown[]): void {
    const itemType = type()
    const length = size()
    if (itemType === TYPE_STRING) {
      for (let i = 0; i < length; i++) {
        const item = items[i]
        if (skipString() && typeof item === 'string') items[i] = MARK + item
      }
    } else if (itemType === TYPE_ARRAY) {
      for (let i = 0; i < length; i++) {
        const item = items[i]
        restoreArray(Array.isArray(item) ? item : [])
      }
    } else {
      at += length * (FIXED_SIZES[itemType] ?? 0)
    }
  }
}
