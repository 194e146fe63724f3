import {
  type Geometry,
  type LayerRotation,
  pairsPerLayer,
  type Rotation,
} from '../../rotation/rotation.ts'
import type { Rng } from '../rng.ts'

/** A few orthonormal directions in the space of all angles of some layers. */
export type Subspace = {
  readonly dimension: number
  /**
   * The angles Σ z[k]·direction k. Their Euclidean norm over all layers is |z|, in radians.
   * @param z [dimension]
   */
  readonly toRotation: (z: ArrayLike<number>) => Rotation
}

/**
 * Random directions, made orthonormal, over the angles of layers [firstLayer, endLayer). Random
 * directions are as good as any without knowledge of the model: fit needs only that enough of them
 * are not orthogonal to what helps (Wang et al. 2016, REMBO).
 * @throws {RangeError} no layers, or more dimensions than angles
 */
export function createRandomSubspace(
  geometry: Geometry,
  firstLayer: number,
  endLayer: number,
  dimension: number,
  rng: Rng,
): Subspace {
  const pairs = pairsPerLayer(geometry)
  const numAngles = (endLayer - firstLayer) * pairs
  if (firstLayer < 0 || endLayer > geometry.numLayers || numAngles < 1) {
    throw new RangeError(`layers ${firstLayer}..${endLayer} of ${geometry.numLayers}`)
  }
  if (dimension < 1 || dimension > numAngles) {
    throw new RangeError(`${dimension} directions among ${numAngles} angles`)
  }
  const directions: Float64Array[] = []
  while (directions.length < dimension) {
    const direction = Float64Array.from({ length: numAngles }, rng.normal)
    for (const earlier of directions) {
      const overlap = dot(direction, earlier)
      for (let i = 0; i < numAngles; i++) direction[i]! -= overlap * earlier[i]!
    }
    const norm = Math.sqrt(dot(direction, direction))
    directions.push(direction.map((value) => value / norm))
  }
  return {
    dimension,
    toRotation: (z) => {
      const layers = new Map<number, LayerRotation>()
      const sum = new Float64Array(numAngles)
      directions.forEach((direction, k) => {
        const weight = z[k]!
        for (let i = 0; i < numAngles; i++) sum[i]! += weight * direction[i]!
      })
      if (sum.every((value) => value === 0)) return { geometry, layers }
      for (let layer = firstLayer; layer < endLayer; layer++) {
        const at = (layer - firstLayer) * pairs
        layers.set(layer, { angles: new Float32Array(sum.subarray(at, at + pairs)) })
      }
      return { geometry, layers }
    },
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}
