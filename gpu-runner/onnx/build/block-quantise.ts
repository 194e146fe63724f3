/**
 * GGUF blocks → the block formats of MatMulNBits: unsigned codes with the implied zero point 2^(bits−1)
 * and one float32 scale per block of 32 along K. Q8_0 and Q4_0 convert exactly. Q4_1 has a float
 * minimum that MatMulNBits cannot hold without losing its packed kernels; it becomes 8 bit on a grid
 * that keeps its steps exact and its minimum nearly so.
 */

import { halfToFloatTable } from '../../model/gguf/dequantise.ts'

export const BLOCK_SIZE = 32
const Q4_0_BLOCK_BYTES = 18
const Q4_1_BLOCK_BYTES = 20
const Q8_0_BLOCK_BYTES = 34
const MIN_CODE_8 = -128
const MAX_CODE_8 = 127
/** Largest code of a 4-bit block. */
const MAX_CODE_4 = 15

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
 * Q4_1 (w = step·q + minimum) → 8 bit. The step is divided by a whole number k, so every q lands on
 * the grid; among the k that fit 8 bits the one is taken whose grid passes nearest the minimum. What
 * is left is one small shift for a whole block: half the error in the model's logits that rounding
 * each weight by its block's largest magnitude leaves.
 */
export function requantiseQ4_1(bytes: Uint8Array): QuantisedMatrix {
  const numBlocks = bytes.length / Q4_1_BLOCK_BYTES
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const half = halfToFloatTable()
  const codes = new Uint8Array(numBlocks * BLOCK_SIZE)
  const scales = new Float32Array(numBlocks)
  const values = new Float32Array(BLOCK_SIZE)
  for (let block = 0; block < numBlocks; block++) {
    const at = block * Q4_1_BLOCK_BYTES
    const step = half[view.getUint16(at, true)]!
    const minimum = half[view.getUint16(at + 2, true)]!
    const code = (i: number): number =>
      i < 16 ? bytes[at + 4 + i]! & 15 : bytes[at + 4 + i - 16]! >> 4
    const grid = gridOf(step, minimum)
    if (grid) {
      scales[block] = step / grid.divisor
      for (let i = 0; i < BLOCK_SIZE; i++) {
        codes[block * BLOCK_SIZE + i] = grid.divisor * code(i) + grid.offset + 128
      }
    } else {
      for (let i = 0; i < BLOCK_SIZE; i++) values[i] = step * code(i) + minimum
      const rounded = quantise8(values)
      codes.set(rounded.codes, block * BLOCK_SIZE)
      scales[block] = rounded.scales[0]!
    }
  }
  return { bits: 8, codes, scales }
}

/** @returns the divisor k and the code of the minimum, or null where no grid holds the block */
function gridOf(step: number, minimum: number): { divisor: number; offset: number } | null {
  if (step === 0) return null
  let best: { divisor: number; offset: number } | null = null
  let smallestError = Infinity
  const maxDivisor = Math.floor((MAX_CODE_8 - MIN_CODE_8) / MAX_CODE_4)
  for (let divisor = 1; divisor <= maxDivisor; divisor++) {
    const exact = (minimum / step) * divisor
    const offset = Math.round(exact)
    if (offset < MIN_CODE_8 || offset + MAX_CODE_4 * divisor > MAX_CODE_8) continue
    const error = Math.abs(exact - offset) / divisor
    if (error < smallestError) {
      smallestError = error
      best = { divisor, offset }
    }
  }
  return best
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
