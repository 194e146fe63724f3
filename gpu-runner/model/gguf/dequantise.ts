import {
  addHighBits,
  AFFINE_BLOCK_LEN,
  forEachAffineBlock,
  readNibbleHalves,
  type AffineType,
} from './affine-blocks.ts'
import { halfToFloatTable } from './half.ts'
import { BLOCK_LAYOUTS, sizeOfElements, type TensorType } from './tensor-types.ts'

/** Elements of a quantised block, for types other than K-quants. */
const BLOCK_LEN = 32
const HALF_BLOCK = BLOCK_LEN / 2
/** Q4_0 stores q + 8. */
const Q4_0_ZERO = 8
const Q5_0_ZERO = 16
const Q5_0_BYTES = 22
const Q6_K_BYTES = 210
const Q6_K_LEN = 256
const Q6_K_ZERO = 32

/**
 * Decodes a tensor's bytes to float32, in storage order.
 * @param bytes little-endian blocks, exactly as many as numElements need
 * @returns [numElements]
 * @throws {RangeError} numElements are not whole blocks, or bytes does not have their size
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
      // Copied as bytes, since the source may not be aligned to four.
      new Uint8Array(out.buffer).set(bytes)
      return out
    case 'F16':
      return decodeF16(bytes, out)
    case 'Q4_0':
      return decodeQ4(bytes, out, false)
    case 'Q4_1':
      return decodeQ4(bytes, out, true)
    case 'Q5_0':
      return decodeQ5_0(bytes, out)
    case 'Q8_0':
      return decodeQ8(bytes, out)
    case 'BF16':
      return decodeBf16(bytes, out)
    case 'Q5_1':
    case 'Q4_K':
    case 'Q5_K':
      return decodeAffine(type, bytes, out)
    case 'Q6_K':
      return decodeQ6_K(bytes, out)
  }
}

function decodeF16(bytes: Uint8Array, out: Float32Array): Float32Array {
  const half = halfToFloatTable()
  for (let i = 0; i < out.length; i++) out[i] = half[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!
  return out
}

/** A block's first half is in the low nibbles, its second in the high ones. */
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

/** bfloat16 is the upper half of a float32. */
function decodeBf16(bytes: Uint8Array, out: Float32Array): Float32Array {
  const bits = new Uint32Array(out.buffer)
  for (let i = 0; i < out.length; i++) {
    bits[i] = ((bytes[2 * i]! | (bytes[2 * i + 1]! << 8)) << 16) >>> 0
  }
  return out
}

function decodeQ5_0(bytes: Uint8Array, out: Float32Array): Float32Array {
  forEachQ5_0Block(bytes, (index, scale, codes) => {
    for (let j = 0; j < BLOCK_LEN; j++) {
      out[index * BLOCK_LEN + j] = (codes[j]! - Q5_0_ZERO) * scale
    }
  })
  return out
}

/**
 * Reads Q5_0 blocks, whose weights are scale·(code − 16).
 * @param visit is given a block's index, its scale and its codes [32], which the next block overwrites
 */
export function forEachQ5_0Block(
  bytes: Uint8Array,
  visit: (index: number, scale: number, codes: Uint8Array) => void,
): void {
  const half = halfToFloatTable()
  const codes = new Uint8Array(BLOCK_LEN)
  for (let at = 0, index = 0; at < bytes.length; at += Q5_0_BYTES, index++) {
    readNibbleHalves(bytes, at + 6, codes)
    addHighBits(bytes, at + 2, codes)
    visit(index, half[bytes[at]! | (bytes[at + 1]! << 8)]!, codes)
  }
}

function decodeAffine(type: AffineType, bytes: Uint8Array, out: Float32Array): Float32Array {
  forEachAffineBlock(type, bytes, (index, step, minimum, codes) => {
    for (let j = 0; j < AFFINE_BLOCK_LEN; j++) {
      out[index * AFFINE_BLOCK_LEN + j] = step * codes[j]! + minimum
    }
  })
  return out
}

/**
 * A Q6_K block has 256 codes of six bits: 128 bytes of low nibbles, 64 bytes of upper two bits, 16
 * signed scales for 16 weights each, and one float16 scale for all. Each half of 128 interleaves four
 * runs of 32.
 */
function decodeQ6_K(bytes: Uint8Array, out: Float32Array): Float32Array {
  const half = halfToFloatTable()
  let at = 0
  for (let block = 0; block < out.length; block += Q6_K_LEN, at += Q6_K_BYTES) {
    const scale = half[bytes[at + 208]! | (bytes[at + 209]! << 8)]!
    for (let i = 0; i < Q6_K_LEN; i++) {
      const inHalf = i & 127
      const run = inHalf >> 5
      const low = bytes[at + ((i >> 7) << 6) + (inHalf & 63)]!
      const high = bytes[at + 128 + ((i >> 7) << 5) + (i & 31)]!
      const code = ((run < 2 ? low : low >> 4) & 15) | (((high >> (2 * run)) & 3) << 4)
      const subScale = (bytes[at + 192 + (i >> 4)]! << 24) >> 24
      out[block + i] = scale * subScale * (code - Q6_K_ZERO)
    }
  }
  return out
}
