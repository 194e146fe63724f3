import { halfToFloatTable } from './half.ts'

/** Types whose weights are step·code + minimum; each run of 32 weights has its own step and minimum. */
export type AffineType = 'Q4_1' | 'Q5_1' | 'Q4_K' | 'Q5_K'

export const AFFINE_BLOCK_LEN = 32
/** Largest code of a type. */
export const AFFINE_MAX_CODE: Readonly<Record<AffineType, number>> = {
  Q4_1: 15,
  Q5_1: 31,
  Q4_K: 15,
  Q5_K: 31,
}

const HALF_BLOCK = AFFINE_BLOCK_LEN / 2
const Q4_1_BYTES = 20
const Q5_1_BYTES = 24
const Q4_K_BYTES = 144
const Q5_K_BYTES = 176
/** Runs of 32 in a K-quant's super-block of 256. They share two float16 scales. */
const RUNS_PER_SUPER_BLOCK = 8
/** Where the packed six-bit scales and minima begin: 12 bytes after the two float16 scales. */
const K_SCALES_AT = 4
const K_DATA_AT = 16

/**
 * @param index number of the run of 32, in storage order
 * @param codes [32]; overwritten by the next run
 */
export type VisitAffineBlock = (
  index: number,
  step: number,
  minimum: number,
  codes: Uint8Array,
) => void

/**
 * Reads a tensor's blocks as steps, minima and codes. Steps and minima are exact in float32.
 * @param bytes whole blocks, little-endian
 * Source: ggml/src/ggml-common.h and ggml-quants.c, block_q4_1, q5_1, q4_K, q5_K
 */
export function forEachAffineBlock(
  type: AffineType,
  bytes: Uint8Array,
  visit: VisitAffineBlock,
): void {
  const codes = new Uint8Array(AFFINE_BLOCK_LEN)
  const hasHighBits = AFFINE_MAX_CODE[type] === 31
  if (type === 'Q4_1' || type === 'Q5_1') readSimple(bytes, hasHighBits, codes, visit)
  else readSuperBlocks(bytes, hasHighBits, codes, visit)
}

/** Sets the fifth bit of each code of a run, from the 32 bits at `at`. */
export function addHighBits(bytes: Uint8Array, at: number, codes: Uint8Array): void {
  for (let i = 0; i < AFFINE_BLOCK_LEN; i++) {
    codes[i]! |= ((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4
  }
}

/** A run's first half is in the low nibbles, its second in the high ones. */
export function readNibbleHalves(bytes: Uint8Array, at: number, codes: Uint8Array): void {
  for (let i = 0; i < HALF_BLOCK; i++) {
    codes[i] = bytes[at + i]! & 15
    codes[HALF_BLOCK + i] = bytes[at + i]! >> 4
  }
}

function readSimple(
  bytes: Uint8Array,
  hasHighBits: boolean,
  codes: Uint8Array,
  visit: VisitAffineBlock,
): void {
  const half = halfToFloatTable()
  const stride = hasHighBits ? Q5_1_BYTES : Q4_1_BYTES
  for (let at = 0, index = 0; at < bytes.length; at += stride, index++) {
    const step = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    const minimum = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!
    readNibbleHalves(bytes, at + stride - HALF_BLOCK, codes)
    if (hasHighBits) addHighBits(bytes, at + 4, codes)
    visit(index, step, minimum, codes)
  }
}

function readSuperBlocks(
  bytes: Uint8Array,
  hasHighBits: boolean,
  codes: Uint8Array,
  visit: VisitAffineBlock,
): void {
  const half = halfToFloatTable()
  const stride = hasHighBits ? Q5_K_BYTES : Q4_K_BYTES
  const nibblesAt = hasHighBits ? K_DATA_AT + AFFINE_BLOCK_LEN : K_DATA_AT
  for (let at = 0, index = 0; at < bytes.length; at += stride) {
    const scale = half[bytes[at]! | (bytes[at + 1]! << 8)]!
    const minScale = half[bytes[at + 2]! | (bytes[at + 3]! << 8)]!
    for (let run = 0; run < RUNS_PER_SUPER_BLOCK; run++, index++) {
      const [step, minimum] = sixBitPair(bytes, at + K_SCALES_AT, run)
      // Two runs share 32 bytes: the first has the low nibbles, the second the high ones.
      const nibbles = at + nibblesAt + (run >> 1) * AFFINE_BLOCK_LEN
      const shift = (run & 1) * 4
      for (let i = 0; i < AFFINE_BLOCK_LEN; i++) {
        codes[i] = (bytes[nibbles + i]! >> shift) & 15
        if (hasHighBits) codes[i]! |= ((bytes[at + K_DATA_AT + i]! >> run) & 1) << 4
      }
      visit(index, scale * step, -minScale * minimum, codes)
    }
  }
}

/** Unpacks a run's six-bit scale and minimum from the twelve bytes of eight runs. */
function sixBitPair(bytes: Uint8Array, at: number, run: number): readonly [number, number] {
  if (run < 4) return [bytes[at + run]! & 63, bytes[at + run + 4]! & 63]
  const low = bytes[at + run + 4]!
  return [
    (low & 15) | ((bytes[at + run - 4]! >> 6) << 4),
    (low >> 4) | ((bytes[at + run]! >> 6) << 4),
  ]
}
