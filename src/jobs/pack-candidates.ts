import {
  pairsPerLayer,
  touchedLayers,
  type Geometry,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import type { ScoreHeader } from '../protocol/runner-scoring.ts'

/** Lays rotations out as [candidate, layer, head, pair], over the layers any of them touches. */
export function packCandidates(
  rotations: readonly Rotation[],
  geometry: Geometry,
  rest: Pick<ScoreHeader, 'dataset' | 'build_digest' | 'scope' | 'examples'>,
): { readonly header: ScoreHeader; readonly values: Float32Array } {
  const layers = [...new Set(rotations.flatMap(touchedLayers))].sort((a, b) => a - b)
  const hasLogScale = rotations.some((rotation) =>
    layers.some((layer) => rotation.layers.get(layer)?.logScale !== undefined),
  )
  const numPairs = pairsPerLayer(geometry)
  const numAngles = rotations.length * layers.length * numPairs
  const values = new Float32Array(hasLogScale ? numAngles * 2 : numAngles)
  rotations.forEach((rotation, candidate) => {
    layers.forEach((layer, i) => {
      const at = (candidate * layers.length + i) * numPairs
      const { angles, logScale } = rotation.layers.get(layer) ?? {}
      if (angles !== undefined) values.set(angles, at)
      if (logScale !== undefined) values.set(logScale, numAngles + at)
    })
  })
  return {
    header: {
      ...rest,
      num_candidates: rotations.length,
      layers,
      has_log_scale: hasLogScale,
    },
    values,
  }
}
