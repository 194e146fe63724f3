import { identityRotation, type Rotation } from '../../../adapters/rotation/rotation.ts'
import type { RewardEvaluation, RewardSample } from '../../protocol/openai/text-report.ts'
import { guardFolds } from '../guard-folds.ts'
import type { PinnedModel } from '../job-spec.ts'
import { meanOf } from '../scores.ts'
import type { StepContext } from '../step.ts'
import type { Measured } from '../measured.ts'
import { rewardRotations } from './reward-rotations.ts'

/** A report shows the texts of this many examples, each up to this length. */
const MAX_SAMPLES = 5
const MAX_SAMPLE_CHARS = 2000

/** How many texts of each prompt and rotation a score of the report averages. */
export const countReportDraws = ({ search, spec }: StepContext): number =>
  search.countReportDraws?.(spec) ?? 1

/** Has texts of the base model, of the job's adapter and of its folds' adapters graded. */
export async function measureRewards(
  context: StepContext,
  pinned: PinnedModel,
  stored: Rotation,
  folds: readonly Rotation[],
): Promise<{
  readonly measured: Measured<RewardEvaluation>
  readonly samples: readonly RewardSample[]
}> {
  const { spec } = context
  const numDraws = countReportDraws(context)
  const identity = identityRotation(pinned.geometry)
  const { inputs, texts, firstScores, scores } = await rewardRotations(
    context,
    pinned,
    spec.training,
    [identity, stored, ...folds],
    numDraws,
  )
  const [base, own] = scores as [number[], number[]]
  // The folds' rotations follow the base model's and the job's.
  const foldOf = guardFolds(context)
  const outOfFold = foldOf.map((fold, example) => scores[2 + fold]![example]!)
  let validation: RewardEvaluation | null = null
  if (spec.validation !== null) {
    const held = await rewardRotations(
      context,
      pinned,
      spec.validation,
      [identity, stored],
      numDraws,
    )
    validation = evaluateRewards(held.scores[0]!, held.scores[1]!)
  }
  const cut = (text: string) => text.slice(0, MAX_SAMPLE_CHARS)
  const samples = inputs.slice(0, MAX_SAMPLES).map((input, example): RewardSample => {
    const sampleOf = (candidate: number) => ({
      text: cut(texts[candidate]![example]!),
      score: firstScores[candidate]![example]!,
    })
    return { input: cut(input), base: sampleOf(0), adapter: sampleOf(2 + foldOf[example]!) }
  })
  return {
    samples,
    measured: {
      baseValue: meanOf(base),
      adapterValue: meanOf(own),
      differences: outOfFold.map((score, example) => score - base[example]!),
      train: evaluateRewards(base, own),
      outOfFold: evaluateRewards(base, outOfFold),
      validation,
    },
  }
}

const evaluateRewards = (
  base: readonly number[],
  adapter: readonly number[],
): RewardEvaluation => ({
  base: { num_examples: base.length, mean_score: meanOf(base) },
  adapter: { num_examples: adapter.length, mean_score: meanOf(adapter) },
})
