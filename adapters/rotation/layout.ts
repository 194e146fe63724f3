import { pairsPerLayer, type Geometry, type Rotation } from './rotation.ts'

/** Several rotations as one array, which is how the runner is asked about them. */
export type LaidOut = {
  /** Whether the log scales follow the angles. */
  readonly hasLogScale: boolean
  /** Angles in radians, [rotation, layer, head, pair]; then, where there are any, ln r in the same order. */
  readonly values: Float32Array
}

/**
 * @param layers the layers that are laid out, in this order; what a rotation does elsewhere is left out
 * @returns zeros where a rotation leaves one of them as it is
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
