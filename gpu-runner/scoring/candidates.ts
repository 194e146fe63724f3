import {
  pairsPerLayer,
  type Geometry,
  type LayerRotation,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { TokenisedDataset } from './dataset-store.ts'

/** Angles are in radians, log scales are natural logarithms. A larger value must be a mistake. */
const MAX_ABS_VALUE = 1e3

export type CandidateLayout = {
  readonly num_candidates: number
  readonly layers: readonly number[]
  readonly has_log_scale: boolean
}

/** How many values all candidates have: angles, and log scales where the layout has them. */
export function countCandidateValues(geometry: Geometry, layout: CandidateLayout): number {
  const half = layout.num_candidates * layout.layers.length * pairsPerLayer(geometry)
  return layout.has_log_scale ? 2 * half : half
}

/**
 * @param values angles [candidates, layers, heads, pairs], then log scales where the layout has them
 * @throws {RunnerFault} layers that the model lacks, a wrong number of values, a value out of bounds
 */
export function decodeCandidates(
  geometry: Geometry,
  layout: CandidateLayout,
  values: Float32Array,
): Rotation[] {
  const pairs = pairsPerLayer(geometry)
  const { num_candidates: numCandidates, layers, has_log_scale: hasLogScale } = layout
  const outside = layers.find((layer) => layer >= geometry.numLayers)
  if (outside !== undefined || new Set(layers).size !== layers.length) {
    throw new RunnerFault('invalid_request', 'layers must be distinct layers of the model', {
      param: 'layers',
    })
  }
  const half = numCandidates * layers.length * pairs
  const expected = countCandidateValues(geometry, layout)
  if (values.length !== expected) {
    throw new RunnerFault('invalid_request', `${values.length} values; ${expected} are needed`)
  }
  if (!values.every((value) => Math.abs(value) <= MAX_ABS_VALUE)) {
    throw new RunnerFault('invalid_request', 'a candidate holds a value out of bounds')
  }
  return Array.from({ length: numCandidates }, (_, candidate) => ({
    geometry,
    layers: new Map(
      layers.map((layer, i): [number, LayerRotation] => {
        const at = (candidate * layers.length + i) * pairs
        const angles = values.subarray(at, at + pairs)
        if (!hasLogScale) return [layer, { angles }]
        return [layer, { angles, logScale: values.subarray(half + at, half + at + pairs) }]
      }),
    ),
  }))
}

/**
 * The examples that a call names; all where it names none.
 * @throws {RunnerFault} an example that the dataset lacks
 */
export function selectExamples(
  dataset: TokenisedDataset,
  named: readonly number[] | undefined,
): readonly number[] {
  const examples = named ?? dataset.prompts.map((_, index) => index)
  const missing = examples.find((index) => index >= dataset.prompts.length)
  if (missing !== undefined) {
    throw new RunnerFault('invalid_request', `the dataset has no example ${missing}`, {
      param: 'examples',
    })
  }
  return examples
}
