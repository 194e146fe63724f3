import { layOut } from '../../adapters/rotation/layout.ts'
import { touchedLayers, type Geometry, type Rotation } from '../../adapters/rotation/rotation.ts'
import type { ScoreHeader } from '../protocol/runner-scoring.ts'

/**
 * Lays rotations out as [candidate, layer, head, pair], over all layers that at least one of them
 * touches.
 */
export function packCandidates(
  rotations: readonly Rotation[],
  geometry: Geometry,
  rest: Pick<ScoreHeader, 'dataset' | 'build_digest' | 'scope' | 'examples'>,
): { readonly header: ScoreHeader; readonly values: Float32Array } {
  const layers = [...new Set(rotations.flatMap(touchedLayers))].sort((a, b) => a - b)
  const { hasLogScale, values } = layOut(rotations, layers, geometry)
  const header = {
    ...rest,
    num_candidates: rotations.length,
    layers,
    has_log_scale: hasLogScale,
  }
  return { header, values }
}
