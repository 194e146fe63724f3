import {
  createOptimiser,
  type Optimiser,
  type OptimiserSpec,
} from '../../adapters/optimise/optimiser.ts'
import { readDirections } from './directions.ts'
import type { JobSpec, PinnedModel } from './job-spec.ts'
import { asJobFailure, type StepContext } from './step-context.ts'

const optimisers = new WeakMap<PinnedModel, Optimiser>()

/** Kept with the pinned model it is for: making one draws its whole subspace. */
export function optimiserOf({ spec, searchState }: StepContext, pinned: PinnedModel): Optimiser {
  const known = optimisers.get(pinned)
  if (known !== undefined) return known
  try {
    const made = createOptimiser(optimiserSpec(spec, pinned, searchState))
    optimisers.set(pinned, made)
    return made
  } catch (error) {
    throw asJobFailure(error)
  }
}

function optimiserSpec(
  spec: JobSpec,
  pinned: PinnedModel,
  searchState: Uint8Array | null,
): OptimiserSpec {
  const { seed, numTrials, scope, optimiser: name } = spec
  const common = { geometry: pinned.geometry, seed, numTrials, scope }
  if (name === 'gradient') throw new Error('gradient is not searched by values')
  if (name !== 'bo' || spec.subspace !== 'gradient') return { ...common, name }
  if (searchState === null) throw new Error('a search without its directions')
  return { ...common, name, directions: readDirections(searchState, pinned) }
}
