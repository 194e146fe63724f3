/**
 * GGUF blocks → the block formats of MatMulNBits: unsigned codes with the implied zero point 2^(bits−1)
 * and one float32 scale per block of 32 along K. Q8_0, Q5_0 and Q4_0 convert exactly. Q4_1, Q5_1, Q4_K
 * and Q5_K have a minimum that MatMulNBits cannot hold without losing its packed kernels; they become
 * 8 bit on a grid that keeps their steps exact and the minimum nearly so. Q6_K scales 16 weights at a
 * time, half a block, so it is rounded like floats.
 */

import {
  AFFINE_MAX_CODE,
  forEachAffineBlock,
  forEachQ5_0Block,
  halfToFloatTable,
  type AffineType,
} from '../../model/gguf/index.ts'

export const BLOCK_SIZE = 32
const Q4_0_BLOCK_BYTES = 18
const Q8_0_BLOCK_BYTES = 34
const MIN_CODE_8 = -128
const MAX_CODE_8 = 127
/** Q5_0 stores q + 16. */
const Q5_0_ZERO = 16

export type QuantisedMatrix = {
  readonly bits: 4 | 8
  /** [rows, blocks, 32·bits/8] */
  readonly codes: Uint8Array
  /** [rows·blocks] */
  readonly scales: Float32Array
}

/**
 * Q4_0 → 4 bit, exact. GGUF has element i in the low half of byte i and element i+16 in the high half;
 * MatMulNBits has neighbours in one byte.
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

/** Q5_0 → 8 bit, exact. */
export function requantiseQ5_0(bytes: Uint8Array, numWeights: number): QuantisedMatrix {
  const codes = new Uint8Array(numWeights)
  const scales = new Float32Array(numWeights / BLOCK_SIZE)
  forEachQ5_0Block(bytes, (block, scale, five) => {
    scales[block] = scale
    for (let i = 0; i < BLOCK_SIZE; i++) {
      codes[block * BLOCK_SIZE + i] = five[i]! - Q5_0_ZERO + 128
    }
  })
  return { bits: 8, codes, scales }
}

/**
 * w = step·q + minimum → 8 bit. The step is divided by a whole number k, so every q lies on the grid.
 * Of the k that fit 8 bits, the one whose grid passes nearest the minimum is taken. The only error is
 * then one small shift of the whole block, and the error in the model's logits is half of what
 * rounding each weight by its block's largest magnitude would leave. The few blocks where rounding is
 * nearer are rounded. Q4_1 is never rounded: its builds are older than that rule and keep their
 * numbers.
 */
export function requantiseAffine(
  type: AffineType,
  bytes: Uint8Array,
  numWeights: number,
): QuantisedMatrix {
  const maxCode = AFFINE_MAX_CODE[type]
  const codes = new Uint8Array(numWeights)
  const scales = new Float32Array(numWeights / BLOCK_SIZE)
  const values = new Float32Array(BLOCK_SIZE)
  forEachAffineBlock(type, bytes, (block, step, minimum, from) => {
    const at = block * BLOCK_SIZE
    const grid = gridOf(step, minimum, maxCode)
    for (let i = 0; i < BLOCK_SIZE; i++) values[i] = step * from[i]! + minimum
    const rounded = grid && type === 'Q4_1' ? null : quantise8(values)
    if (grid && (rounded === null || BLOCK_SIZE * grid.shift ** 2 <= errorOf(rounded, values))) {
      scales[block] = step / grid.divisor
      for (let i = 0; i < BLOCK_SIZE; i++) {
        codes[at + i] = grid.divisor * from[i]! + grid.offset + 128
      }
    } else {
      codes.set(rounded!.codes, at)
      scales[block] = rounded!.scales[0]!
    }
  })
  return { bits: 8, codes, scales }
}

/** The squared error of a block. */
function errorOf({ codes, scales }: QuantisedMatrix, values: Float32Array): number {
  return values.reduce((sum, value, i) => sum + ((codes[i]! - 128) * scales[0]! - value) ** 2, 0)
}

type Grid = {
  /** k */
  readonly divisor: number
  /** Code of the minimum. */
  readonly offset: number
  /** How far the block's weights are shifted. */
  readonly shift: number
}

/** @returns null where no grid holds the block */
function gridOf(step: number, minimum: number, maxCode: number): Grid | null {
  if (step === 0) return null
  let best: Grid | null = null
  let smallestError = Infinity
  const maxDivisor = Math.floor((MAX_CODE_8 - MIN_CODE_8) / maxCode)
  for (let divisor = 1; divisor <= maxDivisor; divisor++) {
    const exact = (minimum / step) * divisor
    const offset = Math.round(exact)
    if (offset < MIN_CODE_8 || offset + maxCode * divisor > MAX_CODE_8) continue
    const error = Math.abs(exact - offset) / divisor
    if (error < smallestError) {
      smallestError = error
      best = { divisor, offset, shift: error * step }
    }
  }
  return best
}

/**
 * Any float matrix → 8 bit, scaled by each block's largest magnitude.
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
