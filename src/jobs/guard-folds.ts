import {
  countFolds,
  stratifiedBatches,
  stratifiedFolds,
} from '../../adapters/optimise/gradient/folds.ts'
import type { StepContext } from './step.ts'

/** What of a step's context divides the training examples. */
export type FoldContext = Pick<StepContext, 'spec' | 'search'>

export const countGuardFolds = ({ spec, search }: FoldContext): number =>
  countFolds(spec.groups, search.maxFolds)

/** The fold of each training example. A search that itself holds folds out uses the same ones. */
export const guardFolds = (context: FoldContext): number[] => {
  const { training, seed, groups } = context.spec
  return stratifiedFolds(training.gold, countGuardFolds(context), seed, groups)
}

/**
 * The batch of each training example; a gradient step takes one batch. Pairs are few, and both texts of
 * a pair must be in one batch, so pairs all share one.
 */
export const trainingBatches = ({
  spec,
  objective,
}: Pick<StepContext, 'spec' | 'objective'>): number[] => {
  const { gold } = spec.training
  return objective.hasPairs ? gold.map(() => 0) : stratifiedBatches(gold, spec.seed)
}

/** Training examples by batch, then by fold, so that a call's examples are neighbours. */
export function trainingOrder(context: StepContext): number[] {
  const batches = trainingBatches(context)
  const folds = guardFolds(context)
  return folds
    .map((_, example) => example)
    .sort((a, b) => batches[a]! - batches[b]! || folds[a]! - folds[b]! || a - b)
}
