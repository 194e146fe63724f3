import { pairsPerLayer, type Geometry, type Rotation } from './rotation.ts'

/** Several rotations as one array, the form in which the gateway sends them to the runner. */
export type LaidOut = {
  /** Whether `values` holds log scales after the angles. */
  readonly hasLogScale: boolean
  /** Angles in radians, [rotation, layer, head, pair]; then, with `hasLogScale`, ln r in the same order. */
  readonly values: Float32Array
}

/**
 * Copies some layers of several rotations into one array.
 * @param layers the layers to copy, in this order; the others are omitted
 * @returns zeros for a layer that a rotation does not touch
 */
export function layOut(
  rotations: readonly Rotation[],
  layers: readonly number[],
  geometry: Geometry,
): LaidOut {
  const hasLogScale = rotations.some((rotation) =>
    layers.some((layer) => rotation.layers.get(layer)?.logScale !== undefined),
  )
  const numPairs = pairsPerLayer(geometry)
  const numAngles = rotations.length * layers.length * numPairs
  const values = new Float32Array(hasLogScale ? 2 * numAngles : numAngles)
  for (const [i, rotation] of rotations.entries()) {
    for (const [place, layer] of layers.entries()) {
      const at = (i * layers.length + place) * numPairs
      const { angles, logScale } = rotation.layers.get(layer) ?? {}
      if (angles !== undefined) values.set(angles, at)
      if (logScale !== undefined) values.set(logScale, numAngles + at)
    }
  }
  return { hasLogScale, values }
}
