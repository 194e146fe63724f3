import { type Geometry, pairsPerLayer } from '../../rotation/rotation.ts'
import type { Rng } from '../rng.ts'
import { spanOf, type Subspace } from './subspace.ts'

/**
 * Random directions over the angles of layers [firstLayer, endLayer). They are as good as any
 * without knowledge of the model: fit needs only that enough of them are not orthogonal to what
 * helps (Wang et al. 2016, REMBO).
 * @throws {RangeError} no layers, or more dimensions than angles
 */
export function createRandomSubspace(
  geometry: Geometry,
  firstLayer: number,
  endLayer: number,
  dimension: number,
  rng: Rng,
): Subspace {
  const numAngles = (endLayer - firstLayer) * pairsPerLayer(geometry)
  if (dimension < 1 || dimension > numAngles) {
    throw new RangeError(`${dimension} directions among ${numAngles} angles`)
  }
  const vectors = Array.from({ length: dimension }, () =>
    Float64Array.from({ length: numAngles }, rng.normal),
  )
  return spanOf(geometry, firstLayer, endLayer, vectors)
}
