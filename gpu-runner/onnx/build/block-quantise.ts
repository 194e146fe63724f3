/**
 * GGUF blocks → the block formats of MatMulNBits: unsigned codes with the implied zero point 2^(bits−1)
 * and one float32 scale per block of 32 along K. Q8_0 and Q4_0 convert exactly. Q4_1 has a float
 * minimum that MatMulNBits cannot hold without losing its packed kernels, so it becomes 8 bit: the
 * rounding adds at most max|w|/254 to a weight, a fraction of Q4_1's own step.
 */

import { halfToFloatTable } from '../../model/gguf/dequantise.ts'

export const BLOCK_SIZE = 32
const Q4_0_BLOCK_BYTES = 18
const Q8_0_BLOCK_BYTES = 34

export type QuantisedMatrix = {
  readonly bits: 4 | 8
  /** [rows, blocks, 32·bits/8] */
  readonly codes: Uint8Array
  /** [rows·blocks] */
  readonly scales: Float32Array
}

/**
 * Q4_0 → 4 bit, exact. GGUF keeps element i in the low half of byte i and element i+16 in the high
 * half; MatMulNBits keeps neighbours together.
 */
export function requantiseQ4_0(bytes: Uint8Array): QuantisedMatrix {
  const numBlocks = bytes.length / Q4_0_BLOCK_BYTES
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const half = halfToFloatTable()
  const codes = new Uint8Array(numBlocks * 16)
  const scales = new Float32Array(numBlocks)
  for (let block = 0; block < numBlocks; block++) {
    const at = block * Q4_0_BLOCK_BYTES
    scales[block] = half[view.getUint16(at, true)]!
    const code = (i: number): number =>
      i < 16 ? bytes[at + 2 + i]! & 15 : bytes[at + 2 + i - 16]! >> 4
    for (let i = 0; i < 16; i++) codes[block * 16 + i] = code(2 * i) | (code(2 * i + 1) << 4)
  }
  return { bits: 4, codes, scales }
}

/** Q8_0 → 8 bit, exact. */
export function requantiseQ8_0(bytes: Uint8Array): QuantisedMatrix {
  const numBlocks = bytes.length / Q8_0_BLOCK_BYTES
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const half = halfToFloatTable()
  const codes = new Uint8Array(numBlocks * BLOCK_SIZE)
  const scales = new Float32Array(numBlocks)
  for (let block = 0; block < numBlocks; block++) {
    const at = block * Q8_0_BLOCK_BYTES
    scales[block] = half[view.getUint16(at, true)]!
    for (let i = 0; i < BLOCK_SIZE; i++) {
      codes[block * BLOCK_SIZE + i] = view.getInt8(at + 2 + i) + 128
    }
  }
  return { bits: 8, codes, scales }
}

/**
 * Any float matrix → 8 bit, by the largest magnitude of each block.
 * @param values row-major, the row length a multiple of 32
 */
export function quantise8(values: Float32Array): QuantisedMatrix {
  const numBlocks = values.length / BLOCK_SIZE
  const codes = new Uint8Array(values.length)
  const scales = new Float32Array(numBlocks)
  for (let block = 0; block < numBlocks; block++) {
    const at = block * BLOCK_SIZE
    let largest = 0
    for (let i = 0; i < BLOCK_SIZE; i++) largest = Math.max(largest, Math.abs(values[at + i]!))
    const scale = largest / 127
    scales[block] = scale
    const inverse = scale === 0 ? 0 : 1 / scale
    for (let i = 0; i < BLOCK_SIZE; i++) {
      codes[at + i] = Math.round(values[at + i]! * inverse) + 128
    }
  }
  return { bits: 8, codes, scales }
}
