import {
  countFolds,
  stratifiedBatches,
  stratifiedFolds,
} from '../../adapters/optimise/gradient/folds.ts'
import type { JobSpec } from './job-spec.ts'
import type { ObjectiveKind, StepContext } from './step.ts'

/** @param maxFolds as the search's record has it */
export const countGuardFolds = ({ groups }: JobSpec, maxFolds: number): number =>
  countFolds(groups, maxFolds)

/** Fold of each training example; a search that holds folds out itself has the same. */
export const guardFolds = (spec: JobSpec, maxFolds: number): number[] =>
  stratifiedFolds(spec.training.gold, countGuardFolds(spec, maxFolds), spec.seed, spec.groups)

/**
 * Batch of each training example, which a gradient step takes as one. A pair's two texts are one
 * thing to fit, and pairs are few: there all examples are one batch.
 */
export const trainingBatches = (
  { training, seed }: JobSpec,
  { hasPairs }: Pick<ObjectiveKind, 'hasPairs'>,
): number[] => (hasPairs ? training.gold.map(() => 0) : stratifiedBatches(training.gold, seed))

/** Training examples batch by batch and in it fold by fold: what is wanted together are neighbours. */
export function trainingOrder({ spec, search, objective }: StepContext): number[] {
  const batches = trainingBatches(spec, objective)
  const folds = guardFolds(spec, search.maxFolds)
  return folds
    .map((_, example) => example)
    .sort((a, b) => batches[a]! - batches[b]! || folds[a]! - folds[b]! || a - b)
}
