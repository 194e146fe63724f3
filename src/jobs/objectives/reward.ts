import { ok } from '../../../adapters/result.ts'
import { isTextReport } from '../../protocol/openai/text-report.ts'
import { applyFrame, type Frame } from '../../tasks/frame.ts'
import type { NumberedExample } from '../../files/read-examples.ts'
import { countReportDraws, measureRewards } from '../rewards/measure-rewards.ts'
import { rewardRotations } from '../rewards/reward-rotations.ts'
import type { RewardSet } from '../rewards/reward-set.ts'
import { needsTarget } from '../rewards/grader-templates.ts'
import { meanOf, sumsOf } from '../scores.ts'
import { collectOutcome } from '../search-outcome.ts'
import type { ObjectiveKind } from '../step.ts'
import { reportTexts } from '../text-report.ts'

/**
 * The job learns to write texts that a grader likes. A candidate's value is the mean score of its
 * texts.
 */
export const REWARD: ObjectiveKind = {
  hasLabels: false,
  hasPairs: false,
  usesDataset: false,
  hasGradient: false,
  // A trial generates a text for each example: dozens of decode steps, where a label takes one.
  defaults: { numTrials: 40, numSteps: 24, promptDropout: 0 },
  lines: {
    wants: 'the grader compares texts with targets',
    takes: (kind, grader) => kind !== 'none' || grader === null || !needsTarget(grader),
    settleLabels: () => ok([]),
    toDataset: (examples, _labels, frame) => ok(toRewardSet(examples, frame)),
  },
  describe: ({ grader }) => `what the grader "${grader?.type ?? ''}" likes`,
  async measureRotations(context, pinned, dataset, rotations) {
    const { scores } = await rewardRotations(context, pinned, dataset, rotations)
    return scores.map((row) => row.map((score) => [score]))
  },
  valueOf: (_spec, _pinned, scores, isSeen) =>
    meanOf(sumsOf(scores.filter((_, example) => isSeen(example)))),
  differentiate() {
    throw new Error('a grader has no gradient')
  },
  async report(context, pinned) {
    const { grader, generation, beta } = context.spec
    if (grader == null || generation == null) throw new Error('this job on rewards has no grader')
    const outcome = collectOutcome(context, pinned)
    const { stored, outOfFold } = outcome
    const { samples, measured } = await measureRewards(context, pinned, stored, outOfFold)
    const unit = { judged: 'score', unit: '' } as const
    return reportTexts(context, pinned, outcome, measured, unit, (common) => ({
      objective: 'reward',
      ...(beta == null ? {} : { beta }),
      num_draws: countReportDraws(context),
      grader,
      generation,
      ...common,
      samples,
    }))
  },
  checkpointMetrics(report) {
    if (!isTextReport(report) || report.objective !== 'reward') {
      throw new Error('a report without a grader has no scores')
    }
    return {
      train_mean_reward: report.train.adapter.mean_score,
      valid_mean_reward: report.guard.out_of_fold.adapter.mean_score,
    }
  },
}

const toRewardSet = (examples: readonly NumberedExample[], frame: Frame): RewardSet => ({
  examples: examples.map(({ example }) => ({
    messages: applyFrame(frame, example.messages).messages,
    input: example.messages.findLast(({ role }) => role === 'user')?.content ?? '',
    target: example.kind === 'none' ? null : example.answer.trim(),
  })),
})
