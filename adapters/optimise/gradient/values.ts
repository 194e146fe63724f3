import {
  pairsPerLayer,
  type Geometry,
  type LayerRotation,
  type Rotation,
} from '../../rotation/rotation.ts'

/**
 * The rotation with a candidate's values.
 * @param layers the layers of `values`, in their order
 * @param values angles in radians [layers, pairs], optionally followed by log scales of the same shape
 */
export function toRotation(
  geometry: Geometry,
  layers: readonly number[],
  values: Float32Array,
): Rotation {
  const pairs = pairsPerLayer(geometry)
  const half = layers.length * pairs
  const own = layers.map((layer, i): readonly [number, LayerRotation] => {
    const angles = values.slice(i * pairs, (i + 1) * pairs)
    const logScale = values.slice(half + i * pairs, half + (i + 1) * pairs)
    return [layer, logScale.length === 0 ? { angles } : { angles, logScale }]
  })
  return { geometry, layers: new Map(own) }
}
