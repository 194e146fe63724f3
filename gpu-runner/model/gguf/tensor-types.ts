/**
 * The GGML tensor types this project reads. A block is the smallest unit that can be decoded.
 * Source: ggml/src/ggml-common.h, block_q4_0 to block_q8_0, block_q4_K to block_q6_K
 */
export type TensorType =
  'F32' | 'F16' | 'BF16' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K'

export interface BlockLayout {
  /** GGML's number of the type in a tensor's header. */
  readonly ggmlId: number
  readonly elements: number
  readonly sizeBytes: number
}

export const BLOCK_LAYOUTS: Readonly<Record<TensorType, BlockLayout>> = {
  F32: { ggmlId: 0, elements: 1, sizeBytes: 4 },
  F16: { ggmlId: 1, elements: 1, sizeBytes: 2 },
  // float16 scale, 32 × 4 bit
  Q4_0: { ggmlId: 2, elements: 32, sizeBytes: 2 + 16 },
  // float16 scale, float16 minimum, 32 × 4 bit
  Q4_1: { ggmlId: 3, elements: 32, sizeBytes: 2 + 2 + 16 },
  // float16 scale, 32 fifth bits, 32 × 4 bit
  Q5_0: { ggmlId: 6, elements: 32, sizeBytes: 2 + 4 + 16 },
  // float16 scale, float16 minimum, 32 fifth bits, 32 × 4 bit
  Q5_1: { ggmlId: 7, elements: 32, sizeBytes: 2 + 2 + 4 + 16 },
  // float16 scale, 32 × int8
  Q8_0: { ggmlId: 8, elements: 32, sizeBytes: 2 + 32 },
  // float16 scales of scales and of minima, 8 × 6 bit of each, 256 × 4 bit
  Q4_K: { ggmlId: 12, elements: 256, sizeBytes: 4 + 12 + 128 },
  // the same with 256 fifth bits
  Q5_K: { ggmlId: 13, elements: 256, sizeBytes: 4 + 12 + 32 + 128 },
  // 256 × 4 bit, 256 × 2 bit, 16 × int8 scales, float16 scale
  Q6_K: { ggmlId: 14, elements: 256, sizeBytes: 128 + 64 + 16 + 2 },
  BF16: { ggmlId: 30, elements: 1, sizeBytes: 2 },
}

const TYPE_BY_ID: ReadonlyMap<number, TensorType> = new Map(
  (Object.keys(BLOCK_LAYOUTS) as TensorType[]).map((type) => [BLOCK_LAYOUTS[type].ggmlId, type]),
)

export function tensorTypeOf(ggmlId: number): TensorType | null {
  return TYPE_BY_ID.get(ggmlId) ?? null
}

/** @throws {RangeError} numElements is not a whole number of blocks */
export function sizeOfElements(type: TensorType, numElements: number): number {
  const { elements, sizeBytes } = BLOCK_LAYOUTS[type]
  if (numElements % elements !== 0) {
    throw new RangeError(`${numElements} elements are not whole ${type} blocks of ${elements}`)
  }
  return (numElements / elements) * sizeBytes
}
