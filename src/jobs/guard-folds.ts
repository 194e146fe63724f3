import { countFolds, NUM_FOLDS, stratifiedFolds } from '../../adapters/optimise/gradient/folds.ts'
import { NUM_ROUND_FOLDS } from '../../adapters/optimise/rounds/options.ts'
import { isInRounds } from '../protocol/openai/hyperparameters.ts'
import type { JobSpec } from './job-spec.ts'

/**
 * A fold's search has this share of the job's trials, so that judging costs one and a half times the
 * search itself. With fewer trials a fold finds a little less than the job, never more.
 */
const FOLD_TRIAL_SHARE = 0.3
/** The first trials of a search are spent on its initial design. */
const MIN_FOLD_TRIALS = 16
/** Whether the search steps along gradients, with folds of its own. */
export const isGradient = ({ optimiser }: Pick<JobSpec, 'optimiser'>): boolean =>
  optimiser === 'gradient' || optimiser === 'auto' || isInRounds(optimiser)

/** Trials of each fold's search; 0 where the search has folds of its own. */
export const countFoldTrials = (spec: JobSpec): number =>
  isGradient(spec)
    ? 0
    : Math.min(
        spec.numTrials,
        Math.max(MIN_FOLD_TRIALS, Math.round(FOLD_TRIAL_SHARE * spec.numTrials)),
      )

export const countGuardFolds = ({ groups, optimiser }: JobSpec): number =>
  countFolds(groups, isInRounds(optimiser) ? NUM_ROUND_FOLDS : NUM_FOLDS)

/** Fold of each training example; the folds of searches that have their own are these too. */
export const guardFolds = (spec: JobSpec): number[] =>
  stratifiedFolds(spec.training.gold, countGuardFolds(spec), spec.seed, spec.groups)

/** Training examples fold by fold: those that the same fits leave out are neighbours. */
export function foldOrder(spec: JobSpec): number[] {
  const folds = guardFolds(spec)
  return folds.map((_, example) => example).sort((a, b) => folds[a]! - folds[b]! || a - b)
}
