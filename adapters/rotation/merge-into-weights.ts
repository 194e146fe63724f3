import { type LayerRotation, writeRotationTable } from './rotation.ts'

/**
 * Folds a layer's rotation of z into the matrix that reads z: W·(R·z) = (W·R)·z, so the columns
 * 2i and 2i+1 become r·(cos θ·w₂ᵢ + sin θ·w₂ᵢ₊₁) and r·(cos θ·w₂ᵢ₊₁ − sin θ·w₂ᵢ). Exact but for one
 * rounding to float32 an entry.
 * @param weight W_O, row-major [rows, numHeads · headDim]; changed in place
 * @throws {RangeError} the matrix has another number of columns than the rotation has pairs, twice
 */
export function mergeIntoOutputProjection(weight: Float32Array, rotation: LayerRotation): void {
  const numPairs = rotation.angles.length
  const numColumns = 2 * numPairs
  if (numPairs === 0 || weight.length % numColumns !== 0) {
    throw new RangeError(`${weight.length} weights are not whole rows of ${numColumns}`)
  }
  // The very numbers that the served tables hold, so that nothing but the products differs.
  const cos = new Float32Array(numPairs)
  const sin = new Float32Array(numPairs)
  writeRotationTable(rotation, cos, sin, 0, numPairs)
  for (let row = 0; row < weight.length; row += numColumns) {
    for (let pair = 0; pair < numPairs; pair++) {
      const at = row + 2 * pair
      const even = weight[at]!
      const odd = weight[at + 1]!
      weight[at] = cos[pair]! * even + sin[pair]! * odd
      weight[at + 1] = cos[pair]! * odd - sin[pair]! * even
    }
  }
}
