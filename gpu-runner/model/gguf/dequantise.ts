import { BLOCK_LAYOUTS, sizeOfElements, type TensorType } from './tensor-types.ts'

/** Elements of a quantised block; the same for every block type read here. */
const BLOCK_LEN = 32
const HALF_BLOCK = BLOCK_LEN / 2
/** Q4_0 stores q + 8. */
const Q4_0_ZERO = 8

let halfTable: Float32Array | null = null

/** Every float16 bit pattern as a float32, [65536]; built once, since a lookup beats the maths. */
export function halfToFloatTable(): Float32Array {
  if (halfTable) return halfTable
  const table = new Float32Array(0x10000)
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 0x1f
    const mantissa = bits & 0x3ff
    table[bits] =
      exponent === 0x1f
        ? mantissa === 0
          ? sign * Infinity
          : NaN
        : exponent === 0
          ? sign * mantissa * 2 ** -24
          : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15)
  }
  halfTable = table
  return table
}

/**
 * Decodes a tensor's bytes to float32, in storage order.
 * @param bytes little-endian blocks, exactly as many as numElements need
 * @returns [numElements]
 * @throws {RangeError} numElements is not whole blocks, or bytes is not their size
 * Source: ggml/src/ggml-quants.c, dequantize_row_*
 */
export function dequantise(type: TensorType, bytes: Uint8Array, numElements: number): Float32Array {
  const expected = sizeOfElements(type, numElements)
  if (bytes.length !== expected) {
    throw new RangeError(
      `${numElements} ${type} elements are ${expected} bytes; given ${bytes.length}`,
    )
  }
  const out = new Float32Array(numElements)
  switch (type) {
    case 'F32':
      // Through bytes, since the source need not be aligned to four.
      new Uint8Array(out.buffer).set(bytes)
      return out
    case 'F16':
      return decodeF16(bytes, out)
    case 'Q4_0':
      return decodeQ4(bytes, out, false)
    case 'Q4_1':
      return decodeQ4(bytes, out, true)
    case 'Q8_0':
      return decodeQ8(bytes, out)
  }
}

function decodeF16(bytes: Uint8Array, out: Float32Array): Float32Array {
  const half = halfToFloatTable()
  for (let i = 0; i < out.length; i++) out[i] = half[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!
  return out
}

/** Low nibbles are a block's first half, high nibbles its second. */
function decodeQ4(bytes: Uint8Array, out: Float32Array, hasMinimum: boolean): Float32Array {
  const half = halfToFloatTable()
  const stride = BLOCK_LAYOUTS[hasMinimum ? 'Q4_1' : 'Q4_0'].sizeBytes
  let source = 0
  for (let block = 0; block < out.length; block += BLOCK_LEN, source += stride) {
    const scale = half[bytes[source]! | (bytes[source + 1]! << 8)]!
    const minimum = hasMinimum
      ? half[bytes[source + 2]! | (bytes[source + 3]! << 8)]!
      : -Q4_0_ZERO * scale
    const nibbles = source + stride - HALF_BLOCK
    for (let j = 0; j < HALF_BLOCK; j++) {
      const pair = bytes[nibbles + j]!
      out[block + j] = (pair & 0x0f) * scale + minimum
      out[block + HALF_BLOCK + j] = (pair >> 4) * scale + minimum
    }
  }
  return out
}

function decodeQ8(bytes: Uint8Array, out: Float32Array): Float32Array {
  const half = halfToFloatTable()
  let source = 0
  for (let block = 0; block < out.length; block += BLOCK_LEN) {
    const scale = half[bytes[source]! | (bytes[source + 1]! << 8)]!
    source += 2
    for (let j = 0; j < BLOCK_LEN; j++) out[block + j] = ((bytes[source++]! << 24) >> 24) * scale
  }
  return out
}
