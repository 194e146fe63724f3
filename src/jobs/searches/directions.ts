import { DIRECTED_BO_OPTIONS, firstSearchedLayer } from '../../../adapters/optimise/bo/bo.ts'
import {
  decodeDirections,
  encodeDirections,
  groupExamples,
} from '../../../adapters/optimise/subspace/directions.ts'
import { pairsPerLayer } from '../../../adapters/rotation/rotation.ts'
import { differentiate } from '../differentiate.ts'
import { countGuardFolds, guardFolds, type FoldContext } from '../guard-folds.ts'
import type { PinnedModel } from '../job-spec.ts'
import { evaluationOf, message, withRunner } from '../step-context.ts'
import type { StepContext, Transition } from '../step.ts'

/**
 * Finds the directions along which a search by values looks: the gradients of the examples' log
 * probabilities at the identity. There is one for each example or, if there are many examples, one
 * for each group of examples with the same label.
 */
export async function findDirections(
  context: StepContext,
  pinned: PinnedModel,
): Promise<Transition> {
  const { spec } = context
  const { geometry } = pinned
  const { gold } = spec.training
  const layers = searchedLayers(pinned)
  const groups = directionGroups(context)
  const query = {
    numCandidates: 1,
    layers,
    hasLogScale: false,
    values: new Float32Array(layers.length * pairsPerLayer(geometry)),
    weights: new Float32Array(gold.length).fill(1),
    examples: null,
    skipsUnweighted: false,
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

/**
 * Reads the directions that `findDirections` has stored.
 * @param fold leaves out the directions of this fold's examples; null leaves out none
 * @throws {RangeError} the stored bytes are not directions of this job
 */
export function readDirections(
  context: FoldContext & Pick<StepContext, 'searchState'>,
  pinned: PinnedModel,
  fold: number | null,
): Float32Array[] {
  const { searchState } = context
  if (searchState === null) throw new Error('the job has not stored its directions yet')
  const directions = decodeDirections(searchState, pinned.geometry, searchedLayers(pinned).length)
  if (fold === null) return directions
  const folds = guardFolds(context)
  const groups = directionGroups(context)
  return directions.filter((_, direction) => folds[groups[direction]![0]!] !== fold)
}

/**
 * The examples of each direction. All examples of a direction are in one fold, so that the guard can
 * leave a fold's directions out.
 */
export function directionGroups(context: FoldContext): number[][] {
  const { gold } = context.spec.training
  const maxGroups = DIRECTED_BO_OPTIONS.dimension
  if (gold.length <= maxGroups) return groupExamples(gold, maxGroups)
  const folds = guardFolds(context)
  const numFolds = countGuardFolds(context)
  return Array.from({ length: numFolds }, (_, fold) => {
    const members = folds.flatMap((own, example) => (own === fold ? [example] : []))
    const own = members.map((example) => gold[example]!)
    const groups = groupExamples(own, Math.floor(maxGroups / numFolds))
    return groups.map((group) => group.map((i) => members[i]!))
  }).flat()
}

function searchedLayers({ geometry }: PinnedModel): number[] {
  const first = firstSearchedLayer(geometry)
  return Array.from({ length: geometry.numLayers - first }, (_, i) => first + i)
}
