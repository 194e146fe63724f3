import type { Rotation } from '../../adapters/rotation/rotation.ts'
import { scoreRotations } from './evaluate.ts'
import type { PinnedModel, StoredDataset } from './job-spec.ts'
import { evaluationOf, withRunner } from './step-context.ts'
import type { StepContext } from './step.ts'

/**
 * Has a runner score rotations on a dataset that it keeps.
 * @returns `[candidate][example][label]`: log P(label); of targets one value an example
 */
export const scoreOnRunner = (
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
): Promise<number[][][]> =>
  withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, dataset), rotations),
  )

/** Log probability of each whole text, [rotation][text]. */
export async function scoreTexts(
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
): Promise<[number[], number[], ...number[][]]> {
  const scores = await scoreOnRunner(context, pinned, dataset, rotations)
  return scores.map(sumsOf) as [number[], number[], ...number[][]]
}

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** The one value of a target or a graded text. */
export const sumsOf = (scores: readonly (readonly number[])[]): number[] =>
  scores.map(([sum]) => sum!)

/** Tokens of each training example's target. */
export function trainingTokens({ targetTokens }: PinnedModel): readonly number[] {
  if (targetTokens === undefined) throw new Error('a job on targets without their tokens')
  return targetTokens.training
}
