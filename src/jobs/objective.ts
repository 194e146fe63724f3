import { biasedMeanLogProb } from '../../adapters/objective/label-bias.ts'
import { meanTokenLogProb } from '../../adapters/objective/target-log-probs.ts'
import type { JobSpec, PinnedModel } from './job-spec.ts'

/**
 * A candidate's value to a search, higher is better: of labels under the bias that suits the candidate
 * best, of targets a token's mean log probability.
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
  const value =
    objective === 'target'
      ? meanTokenLogProb(sumsOf(pick(scores)), pick(trainingTokens(pinned)))
      : biasedMeanLogProb(pick(scores), pick(training.gold))
  return Number.isFinite(value) ? value : null
}

/** The one value that a runner scores a target by. */
export const sumsOf = (scores: readonly (readonly number[])[]): number[] =>
  scores.map(([sum]) => sum!)

/** Tokens of each training example's target. */
export function trainingTokens({ targetTokens }: PinnedModel): readonly number[] {
  if (targetTokens === undefined) throw new Error('a job on targets without their tokens')
  return targetTokens.training
}
