import { identityRotation, type Rotation } from '../../adapters/rotation/rotation.ts'
import { scoreRotations } from './evaluate.ts'
import { guardFolds } from './guard-folds.ts'
import type { PinnedModel, StoredDataset } from './job-spec.ts'
import type { SearchOutcome } from './search-outcome.ts'
import { evaluationOf, withRunner } from './step-context.ts'
import type { StepContext } from './step.ts'

/**
 * Has a runner score rotations on a dataset.
 * @returns `[candidate][example][label]`: log P(label); a target has one value instead
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

/** Log probabilities of whole texts under the base model and under the adapter that was found. */
export type TextScores = { readonly base: readonly number[]; readonly own: readonly number[] }

/**
 * Has a runner score the texts of a job's files.
 * @returns `outOfFold`: each training text under the rotation of the fold that left it out
 */
export async function scoreTexts(
  context: StepContext,
  pinned: PinnedModel,
  { stored, outOfFold: foldRotations }: SearchOutcome,
): Promise<{
  readonly training: TextScores
  readonly outOfFold: readonly number[]
  readonly validation: TextScores | null
}> {
  const { spec } = context
  const both = [identityRotation(pinned.geometry), stored]
  const score = async (dataset: StoredDataset, rotations: readonly Rotation[]) => {
    const scores = await scoreOnRunner(context, pinned, dataset, rotations)
    const [base, own, ...candidates] = scores.map(sumsOf) as [number[], number[], ...number[][]]
    return { base, own, candidates }
  }
  const { base, own, candidates } = await score(spec.training, [...both, ...foldRotations])
  return {
    training: { base, own },
    outOfFold: guardFolds(context).map((fold, example) => candidates[fold]![example]!),
    validation: spec.validation === null ? null : await score(spec.validation, both),
  }
}

export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Unwraps the scores of targets or graded texts, which have one value an example. */
export const sumsOf = (scores: readonly (readonly number[])[]): number[] =>
  scores.map(([sum]) => sum!)

/** The number of tokens of each training example's target. */
export function trainingTokens({ targetTokens }: PinnedModel): readonly number[] {
  if (targetTokens === undefined) throw new Error('a job on targets without their tokens')
  return targetTokens.training
}
