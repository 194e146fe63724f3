import { type Geometry, pairsPerLayer } from '../../rotation/rotation.ts'
import type { Rng } from '../rng.ts'
import { spanOf, type Subspace } from './subspace.ts'

/**
 * The span of random directions over the angles of layers [firstLayer, endLayer). Without knowledge of
 * the model no choice is better: a search needs only enough directions that are not orthogonal to a
 * helpful rotation.
 * @throws {RangeError} no layers, or more dimensions than angles
 * Source: Wang et al. 2016 (REMBO)
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
    throw new RangeError(`${dimension} directions in a space of ${numAngles} angles`)
  }
  const vectors = Array.from({ length: dimension }, () =>
    Float64Array.from({ length: numAngles }, rng.normal),
  )
  return spanOf(geometry, firstLayer, endLayer, vectors)
}
