import { targetDifferences } from '../../../adapters/guard/text-verdict.ts'
import { meanTokenLogProb } from '../../../adapters/objective/target-log-probs.ts'
import { fail, ok } from '../../../adapters/result.ts'
import type { TargetEvaluation, TargetMetrics } from '../../protocol/openai/text-report.ts'
import type { TargetDataset } from '../../protocol/runner-scoring.ts'
import { applyFrame, type Frame } from '../../tasks/frame.ts'
import { differentiate } from '../differentiate.ts'
import type { PinnedModel } from '../job-spec.ts'
import type { Measured } from '../measured.ts'
import type { NumberedExample } from '../../files/read-examples.ts'
import { scoreOnRunner, scoreTexts, sumsOf, trainingTokens } from '../scores.ts'
import { collectOutcome, type SearchOutcome } from '../search-outcome.ts'
import type { ObjectiveKind, StepContext } from '../step.ts'
import { lossMetrics, reportTexts } from '../text-report.ts'

/**
 * The job learns a text for each input. A candidate's value is the mean log probability of a
 * target's token.
 */
export const TARGET: ObjectiveKind = {
  hasLabels: false,
  hasPairs: false,
  usesDataset: true,
  hasGradient: true,
  defaults: { numTrials: 150, numSteps: 24, promptDropout: 0 },
  lines: {
    wants: 'the job learns targets',
    takes: (kind) => kind === 'message' || kind === 'target',
    settleLabels: (given) =>
      given === null
        ? ok([])
        : fail({
            reason: 'labels_of_targets',
            message: 'the answers are targets, but method.rotation.labels names labels',
            param: 'training_file',
          }),
    toDataset: (examples, _labels, frame) => ok(toTargetDataset(examples, frame)),
  },
  describe: () => 'texts',
  measureRotations: scoreOnRunner,
  valueOf(_spec, pinned, scores, isSeen) {
    const pick = <T>(values: readonly T[]): T[] => values.filter((_, example) => isSeen(example))
    return meanTokenLogProb(sumsOf(pick(scores)), pick(trainingTokens(pinned)))
  },
  exampleSizes: trainingTokens,
  differentiate: async (evaluation, query) => ({
    answer: await differentiate(evaluation, query),
    base: null,
  }),
  async report(context, pinned) {
    const outcome = collectOutcome(context, pinned)
    const measured = await measureTargets(context, pinned, outcome)
    const unit = { judged: 'log probability', unit: ' nats a token' } as const
    return reportTexts(context, pinned, outcome, measured, unit, (common) => ({
      objective: 'target',
      ...common,
    }))
  },
  checkpointMetrics: lossMetrics,
}

/** A target is the file's text without the white space around it. */
const toTargetDataset = (examples: readonly NumberedExample[], frame: Frame): TargetDataset => ({
  examples: examples.map(({ example }) => ({
    messages: [...applyFrame(frame, example.messages).messages],
    target: example.answer.trim(),
  })),
})

async function measureTargets(
  context: StepContext,
  pinned: PinnedModel,
  outcome: SearchOutcome,
): Promise<Measured<TargetEvaluation>> {
  const { training, outOfFold, validation } = await scoreTexts(context, pinned, outcome)
  const { base, own } = training
  const numTokens = trainingTokens(pinned)
  return {
    baseValue: meanTokenLogProb(base, numTokens),
    adapterValue: meanTokenLogProb(own, numTokens),
    differences: targetDifferences(base, outOfFold, numTokens),
    train: evaluateTargets(base, own, numTokens),
    outOfFold: evaluateTargets(base, outOfFold, numTokens),
    validation:
      validation === null
        ? null
        : evaluateTargets(validation.base, validation.own, pinned.targetTokens?.validation ?? []),
  }
}

const evaluateTargets = (
  base: readonly number[],
  adapter: readonly number[],
  numTokens: readonly number[],
): TargetEvaluation => ({
  base: measureTargetsOf(base, numTokens),
  adapter: measureTargetsOf(adapter, numTokens),
})

function measureTargetsOf(sums: readonly number[], numTokens: readonly number[]): TargetMetrics {
  const logLoss = -meanTokenLogProb(sums, numTokens)
  return {
    num_examples: sums.length,
    num_tokens: numTokens.reduce((total, count) => total + count, 0),
    log_loss: logLoss,
    perplexity: Math.exp(logLoss),
  }
}
