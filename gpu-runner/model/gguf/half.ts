let halfTable: Float32Array | null = null

/**
 * The float32 of every float16 bit pattern, [65536]. It is built once: a lookup is faster than
 * computing.
 */
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
