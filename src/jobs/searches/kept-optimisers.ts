import { createOptimiser, type OptimiserSpec } from '../../../adapters/optimise/create.ts'
import type { Optimiser, SearchSpec } from '../../../adapters/optimise/optimiser.ts'
import type { JobSpec, PinnedModel } from '../job-spec.ts'
import { asJobFailure } from '../step-context.ts'
import type { StepContext } from '../step.ts'

/** The optimiser of a job, or of one of its folds: the fold whose examples it must not know. */
export type FindOptimiser = (
  context: StepContext,
  pinned: PinnedModel,
  fold: number | null,
) => Optimiser

/**
 * A fold's search has this share of the job's trials, so that judging costs one and a half times the
 * search itself. With fewer trials a fold finds a little less than the job, never more.
 */
const FOLD_TRIAL_SHARE = 0.3
/** The first trials of a search are spent on its initial design. */
const MIN_FOLD_TRIALS = 16

export const countFoldTrials = ({ numTrials }: JobSpec): number =>
  Math.min(numTrials, Math.max(MIN_FOLD_TRIALS, Math.round(FOLD_TRIAL_SHARE * numTrials)))

const optimisers = new WeakMap<PinnedModel, Map<number | null, Optimiser>>()

/** Keeps each optimiser with the pinned model it is for: making one draws its whole subspace. */
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
