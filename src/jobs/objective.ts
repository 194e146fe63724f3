import { biasedMeanLogProb } from '../../adapters/objective/label-bias.ts'
import { meanTokenLogProb } from '../../adapters/objective/target-log-probs.ts'
import type { Rotation } from '../../adapters/rotation/rotation.ts'
import { scoreRotations } from './evaluate.ts'
import type { JobSpec, PinnedModel, StoredDataset } from './job-spec.ts'
import { rewardRotations } from './rewards/reward-rotations.ts'
import { evaluationOf, withRunner } from './step-context.ts'
import type { StepContext } from './step.ts'

/**
 * What the job's objective gives rotations on examples.
 * @returns `[candidate][example][label]`: log P(label); of a target the sum of its tokens' log
 * probabilities, of a graded text its score, as the only value
 */
export async function measureRotations(
  context: StepContext,
  pinned: PinnedModel,
  dataset: StoredDataset,
  rotations: readonly Rotation[],
): Promise<readonly (readonly (readonly number[])[])[]> {
  if (context.spec.objective === 'reward') {
    const { scores } = await rewardRotations(context, pinned, dataset, rotations)
    return scores.map((row) => row.map((score) => [score]))
  }
  return withRunner(context, ({ client }) =>
    scoreRotations(evaluationOf(context, pinned, client, dataset), rotations),
  )
}

/**
 * A candidate's value to a search, higher is better: of labels under the bias that suits the candidate
 * best, of targets a token's mean log probability, of graded texts the mean score.
 * @param scores of the training examples, as a runner gives them
 * @param isSeen examples that count; all by default
 * @returns null where it is not finite: a failed trial
 */
export function valueOf(
  { objective, training }: JobSpec,
  pinned: PinnedModel,
  scores: readonly (readonly number[])[],
  isSeen: (example: number) => boolean = () => true,
): number | null {
  const pick = <T>(values: readonly T[]): T[] => values.filter((_, example) => isSeen(example))
  const value = {
    label: () => biasedMeanLogProb(pick(scores), pick(training.gold)),
    target: () => meanTokenLogProb(sumsOf(pick(scores)), pick(trainingTokens(pinned))),
    preference: () => {
      throw new Error('pairs are not searched by values')
    },
    reward: () => meanOf(sumsOf(pick(scores))),
  }[objective]()
  return Number.isFinite(value) ? value : null
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
