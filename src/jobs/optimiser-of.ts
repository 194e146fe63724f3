import { createOptimiser, type OptimiserSpec } from '../../adapters/optimise/create.ts'
import type { Optimiser } from '../../adapters/optimise/optimiser.ts'
import { isInRounds } from '../protocol/openai/optimisers.ts'
import { readDirections } from './directions.ts'
import { countFoldTrials } from './guard-folds.ts'
import type { JobSpec, PinnedModel } from './job-spec.ts'
import { asJobFailure, type StepContext } from './step-context.ts'

const optimisers = new WeakMap<PinnedModel, Map<number | null, Optimiser>>()

/**
 * Kept with the pinned model it is for: making one draws its whole subspace.
 * @param fold the fold whose examples have no part in the search; null for the job's own
 */
export function optimiserOf(
  { spec, searchState }: StepContext,
  pinned: PinnedModel,
  fold: number | null = null,
): Optimiser {
  const kept = optimisers.get(pinned) ?? new Map<number | null, Optimiser>()
  optimisers.set(pinned, kept)
  const known = kept.get(fold)
  if (known !== undefined) return known
  try {
    const made = createOptimiser(optimiserSpec(spec, pinned, searchState, fold))
    kept.set(fold, made)
    return made
  } catch (error) {
    throw asJobFailure(error)
  }
}

function optimiserSpec(
  spec: JobSpec,
  pinned: PinnedModel,
  searchState: Uint8Array | null,
  fold: number | null,
): OptimiserSpec {
  const { seed, optimiser: name } = spec
  const numTrials = fold === null ? spec.numTrials : countFoldTrials(spec)
  const common = { geometry: pinned.geometry, seed, numTrials }
  if (name === 'gradient' || name === 'auto' || isInRounds(name)) {
    throw new Error(`${name} is not searched by values`)
  }
  if (name !== 'bo' || spec.subspace !== 'gradient') return { ...common, name }
  if (searchState === null) throw new Error('a search without its directions')
  return { ...common, name, directions: readDirections(searchState, spec, pinned, fold) }
}
