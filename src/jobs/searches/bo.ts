import type { SearchKind } from '../step.ts'
import { findDirections, readDirections } from './directions.ts'
import { keepOptimisers } from './kept-optimisers.ts'
import { searchByValues } from './values.ts'

const byValues = searchByValues(
  keepOptimisers((common, context, pinned, fold) => {
    if (context.spec.subspace !== 'gradient') return { ...common, name: 'bo' }
    return { ...common, name: 'bo', directions: readDirections(context, pinned, fold) }
  }),
)

/** Bayesian optimisation, along the gradients of the examples or along random directions. */
export const BO: SearchKind = {
  ...byValues,
  hyperparameters: ['n_trials', 'subspace'],
  settle(given, method) {
    const hasGradients = method.scope === 'generated' && method.objective.hasGradient
    return {
      ...byValues.settle(given, method),
      subspace: given.subspace ?? (hasGradients ? 'gradient' : 'random'),
    }
  },
  showHyperparameters: ({ numTrials, subspace }) => ({
    optimizer: 'bo',
    n_trials: numTrials,
    // A job of an older release lacks it.
    subspace: subspace ?? 'random',
  }),
  async stepSearch(context, pinned) {
    const wantsDirections = context.spec.subspace === 'gradient' && context.searchState === null
    return wantsDirections ? findDirections(context, pinned) : byValues.stepSearch(context, pinned)
  },
}
