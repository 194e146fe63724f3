import { DIRECTED_BO_OPTIONS, firstSearchedLayer } from '../../adapters/optimise/bo/bo.ts'
import {
  decodeDirections,
  encodeDirections,
  groupExamples,
} from '../../adapters/optimise/subspace/directions.ts'
import { pairsPerLayer } from '../../adapters/rotation/rotation.ts'
import { differentiate } from './differentiate.ts'
import type { PinnedModel } from './job-spec.ts'
import {
  evaluationOf,
  message,
  withRunner,
  type StepContext,
  type Transition,
} from './step-context.ts'

/**
 * What a search by values looks along: the gradients, at the identity, of what the examples' right
 * labels are worth; one an example, or one a group of examples of a label where there are many.
 */
export async function findDirections(
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec } = context
  const { geometry } = pinned
  const { gold } = spec.training
  const layers = searchedLayers(pinned)
  const groups = groupExamples(gold, DIRECTED_BO_OPTIONS.dimension)
  const query = {
    numCandidates: 1,
    layers,
    hasLogScale: false,
    values: new Float32Array(layers.length * pairsPerLayer(geometry)),
    weights: new Float32Array(gold.length).fill(1),
  }
  const directions = await withRunner(context, async ({ client }) => {
    const evaluation = evaluationOf(context, pinned, client, spec.training)
    const found: Float32Array[] = []
    for (const group of groups) {
      found.push((await differentiate(evaluation, query, group)).gradient)
    }
    return found
  })
  return {
    state: {},
    search: encodeDirections(directions),
    events: [message(`Searching along ${directions.length} directions, the examples’ gradients.`)],
  }
}

/** @throws {RangeError} bytes that `findDirections` cannot have written */
export const readDirections = (bytes: Uint8Array, pinned: PinnedModel): Float32Array[] =>
  decodeDirections(bytes, pinned.geometry, searchedLayers(pinned).length)

function searchedLayers({ geometry }: PinnedModel): number[] {
  const first = firstSearchedLayer(geometry)
  return Array.from({ length: geometry.numLayers - first }, (_, i) => first + i)
}
