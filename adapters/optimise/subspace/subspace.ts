import {
  type Geometry,
  type LayerRotation,
  pairsPerLayer,
  type Rotation,
} from '../../rotation/rotation.ts'

/** A few orthonormal directions in the space of all angles of some layers. */
export type Subspace = {
  readonly dimension: number
  /**
   * The rotation with the angles Σ z[k]·direction k. Their Euclidean norm over all layers is |z|.
   * @param z [dimension], radians
   */
  readonly toRotation: (z: ArrayLike<number>) => Rotation
}

/** A vector whose remainder is a smaller share of its length adds no direction. */
const SMALLEST_REMAINDER = 1e-6

/**
 * The span of vectors over the angles of layers [firstLayer, endLayer). A vector in the span of the
 * earlier ones adds no dimension.
 * @param vectors [vectors][layer · pair]
 * @throws {RangeError} no layers, a vector has another length or is not finite, or all are zero
 */
export function spanOf(
  geometry: Geometry,
  firstLayer: number,
  endLayer: number,
  vectors: readonly ArrayLike<number>[],
): Subspace {
  const pairs = pairsPerLayer(geometry)
  const numAngles = (endLayer - firstLayer) * pairs
  if (firstLayer < 0 || endLayer > geometry.numLayers || numAngles < 1) {
    throw new RangeError(
      `no layers ${firstLayer}..${endLayer} in a model with ${geometry.numLayers}`,
    )
  }
  const wrong = vectors.find(({ length }) => length !== numAngles)
  if (wrong !== undefined)
    throw new RangeError(`a direction has ${wrong.length} angles, not ${numAngles}`)
  const directions = orthonormalise(vectors)
  if (directions.length === 0) throw new RangeError('all directions are zero')
  return {
    dimension: directions.length,
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

/** Gram-Schmidt, twice, because one pass does not make nearly dependent vectors orthogonal. */
function orthonormalise(vectors: readonly ArrayLike<number>[]): Float64Array[] {
  const directions: Float64Array[] = []
  for (const vector of vectors) {
    const direction = Float64Array.from(vector)
    const length = Math.sqrt(dot(direction, direction))
    if (!Number.isFinite(length)) throw new RangeError('a direction is not finite')
    for (let pass = 0; pass < 2; pass++) {
      for (const earlier of directions) {
        const overlap = dot(direction, earlier)
        for (let i = 0; i < direction.length; i++) direction[i]! -= overlap * earlier[i]!
      }
    }
    const norm = Math.sqrt(dot(direction, direction))
    if (norm > SMALLEST_REMAINDER * length) directions.push(direction.map((value) => value / norm))
  }
  return directions
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}
