import {
  countFolds,
  NUM_FOLDS,
  stratifiedBatches,
  stratifiedFolds,
} from '../../adapters/optimise/gradient/folds.ts'
import { NUM_ROUND_FOLDS } from '../../adapters/optimise/rounds/options.ts'
import { isInRounds } from '../protocol/openai/optimisers.ts'
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

/**
 * Batch of each training example, which a gradient step takes as one. A pair's two texts are one
 * thing to fit, and pairs are few: there all examples are one batch.
 */
export const trainingBatches = ({ training, seed, objective }: JobSpec): number[] =>
  objective === 'preference' ? training.gold.map(() => 0) : stratifiedBatches(training.gold, seed)

/** Training examples batch by batch and in it fold by fold: what is wanted together are neighbours. */
export function trainingOrder(spec: JobSpec): number[] {
  const [batches, folds] = [trainingBatches(spec), guardFolds(spec)]
  return folds
    .map((_, example) => example)
    .sort((a, b) => batches[a]! - batches[b]! || folds[a]! - folds[b]! || a - b)
}
