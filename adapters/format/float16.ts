/*
 * Conversion of IEEE 754 binary16 by its bits, because not every runtime of this core has Float16Array
 * and DataView.setFloat16.
 */

/** The largest finite binary16. */
export const MAX_FLOAT16 = 65504
/** Distance between two subnormal numbers. */
const SUBNORMAL_STEP = 2 ** -24
const SMALLEST_NORMAL = 2 ** -14
const MANTISSA_STEPS = 1024

const scratch = new DataView(new ArrayBuffer(8))

/**
 * Rounds a float64 to binary16, to nearest with ties to even, without a second rounding through
 * float32. From 65504 plus half a step on it gives infinity, as IEEE 754 requires.
 * @returns the 16 bits
 */
export function toFloat16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7e00
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude < SMALLEST_NORMAL) {
    // A carry into 1024 is the smallest normal number's own encoding.
    return sign | roundHalfEven(magnitude / SUBNORMAL_STEP)
  }
  if (magnitude === Infinity) return sign | 0x7c00
  const exponent = exponentOf(magnitude)
  if (exponent > 15) return sign | 0x7c00
  // Scaling by a power of two is exact. By the addition a mantissa that rounds up to 2048 carries into
  // the exponent, and from the largest exponent into infinity.
  const mantissa = roundHalfEven((magnitude / 2 ** exponent) * MANTISSA_STEPS) - MANTISSA_STEPS
  return sign | (((exponent + 15) << 10) + mantissa)
}

/** The number that 16 bits encode; every finite binary16 is exact in float32. */
export function fromFloat16Bits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const mantissa = bits & 0x3ff
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN
  if (exponent === 0) return sign * mantissa * SUBNORMAL_STEP
  return sign * (MANTISSA_STEPS + mantissa) * 2 ** (exponent - 25)
}

/** The binary exponent of a normal float64. */
function exponentOf(magnitude: number): number {
  scratch.setFloat64(0, magnitude)
  return ((scratch.getUint16(0) >> 4) & 0x7ff) - 1023
}

/** @param value ≥ 0 and below 2^52, so that its fraction is exact */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const fraction = value - floor
  if (fraction > 0.5 || (fraction === 0.5 && floor % 2 === 1)) return floor + 1
  return floor
}
