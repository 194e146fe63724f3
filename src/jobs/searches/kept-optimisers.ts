import { createOptimiser, type OptimiserSpec } from '../../../adapters/optimise/create.ts'
import type { Optimiser, SearchSpec } from '../../../adapters/optimise/optimiser.ts'
import type { JobSpec, PinnedModel } from '../job-spec.ts'
import { asJobFailure } from '../step-context.ts'
import type { StepContext } from '../step.ts'

/**
 * Finds the optimiser of a job or of one of its folds.
 * @param fold the optimiser must not know the examples of this fold; null for the job's own
 */
export type FindOptimiser = (
  context: StepContext,
  pinned: PinnedModel,
  fold: number | null,
) => Optimiser

/**
 * A fold's search makes this share of the job's trials, so that all five folds cost one and a half
 * times the job's search. With fewer trials a fold tends to find a little less than the job does.
 */
const FOLD_TRIAL_SHARE = 0.3
/** A search needs this many trials, because its first ones are its initial design. */
const MIN_FOLD_TRIALS = 16

export const countFoldTrials = ({ numTrials }: JobSpec): number =>
  Math.min(numTrials, Math.max(MIN_FOLD_TRIALS, Math.round(FOLD_TRIAL_SHARE * numTrials)))

const optimisers = new WeakMap<PinnedModel, Map<number | null, Optimiser>>()

/** Keeps the optimisers of each pinned model, because making one draws its whole subspace. */
export const keepOptimisers =
  (
    toOptimiserSpec: (
      common: SearchSpec,
      context: StepContext,
      pinned: PinnedModel,
      fold: number | null,
    ) => OptimiserSpec,
  ): FindOptimiser =>
  (context, pinned, fold) => {
    const kept = optimisers.get(pinned) ?? new Map<number | null, Optimiser>()
    optimisers.set(pinned, kept)
    const known = kept.get(fold)
    if (known !== undefined) return known
    const { spec } = context
    const numTrials = fold === null ? spec.numTrials : countFoldTrials(spec)
    const common = { geometry: pinned.geometry, seed: spec.seed, numTrials }
    try {
      const made = createOptimiser(toOptimiserSpec(common, context, pinned, fold))
      kept.set(fold, made)
      return made
    } catch (error) {
      throw asJobFailure(error)
    }
  }
