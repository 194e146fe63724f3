import { type LayerRotation, writeRotationTable } from './rotation.ts'

/**
 * Folds a layer's rotation of z into the matrix that reads z: W·(R·z) = (W·R)·z, so the columns
 * 2i and 2i+1 become r·(cos θ·w₂ᵢ + sin θ·w₂ᵢ₊₁) and r·(cos θ·w₂ᵢ₊₁ − sin θ·w₂ᵢ). Exact except for one
 * rounding to float32 per entry.
 * @param weight W_O, row-major [rows, numHeads · headDim]; changed in place
 * @throws {RangeError} `weight` is not whole rows of two columns per pair of the rotation
 */
export function mergeIntoOutputProjection(weight: Float32Array, rotation: LayerRotation): void {
  const numPairs = rotation.angles.length
  const numColumns = 2 * numPairs
  if (numPairs === 0 || weight.length % numColumns !== 0) {
    throw new RangeError(`${weight.length} weights are not whole rows of ${numColumns}`)
  }
  // The runner's tables hold the same float32 numbers, so only the products differ from serving.
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
