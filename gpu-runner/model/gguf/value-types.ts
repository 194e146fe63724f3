/**
 * Bytes of a value of each fixed-size type, by GGUF's type number.
 * Source: ggml/docs/gguf.md, gguf_metadata_value_type
 */
export const FIXED_SIZES: Readonly<Record<number, number>> = {
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
export const TYPE_UINT32 = 4
export const TYPE_STRING = 8
export const TYPE_ARRAY = 9
