import { fail, ok, type Result } from '../../../adapters/result.ts'
import { biasedMeanLogProb } from '../../../adapters/objective/label-bias.ts'
import { isTextReport } from '../../protocol/openai/text-report.ts'
import { MAX_LABEL_CHARS, MAX_LABELS } from '../../protocol/runner.ts'
import type { LabelDataset } from '../../protocol/runner-scoring.ts'
import { applyFrame, type Frame } from '../../tasks/frame.ts'
import { answerOf, distinctAnswers, nameLines, type DatasetError } from '../dataset-lines.ts'
import { differentiate } from '../differentiate.ts'
import { reportLabels } from '../label-report.ts'
import type { NumberedExample } from '../../files/read-examples.ts'
import { scoreOnRunner } from '../scores.ts'
import type { ObjectiveKind } from '../step.ts'

/**
 * The job learns which label is right. A candidate's value is the labels' mean log probability
 * under its best bias.
 */
export const LABEL: ObjectiveKind = {
  hasLabels: true,
  hasPairs: false,
  usesDataset: true,
  hasGradient: true,
  // Gradient steps drop tokens of the prompts, so a fit needs more of them than with whole prompts.
  defaults: { numTrials: 150, numSteps: 32, promptDropout: 0.3 },
  lines: {
    wants: 'the job learns labels',
    takes: (kind) => kind === 'message' || kind === 'label',
    settleLabels(given, training) {
      const labels = given ?? distinctAnswers(training)
      const fault = checkLabels(labels)
      return fault === null ? ok(labels) : fail(fault)
    },
    toDataset: toLabelDataset,
  },
  describe: ({ labels }) => `${labels.length} labels`,
  measureRotations: scoreOnRunner,
  valueOf({ training }, _pinned, scores, isSeen) {
    const pick = <T>(values: readonly T[]): T[] => values.filter((_, example) => isSeen(example))
    return biasedMeanLogProb(pick(scores), pick(training.gold))
  },
  differentiate: async (evaluation, query) => ({
    answer: await differentiate(evaluation, query),
    base: null,
  }),
  report: reportLabels,
  checkpointMetrics(report) {
    if (isTextReport(report)) throw new Error('a report on texts has no labels')
    const { guard, train } = report
    const outOfFold = guard.out_of_fold[guard.answer]
    return {
      train_loss: train.adapter.log_loss,
      valid_loss: outOfFold.log_loss,
      train_mean_token_accuracy: train.adapter.accuracy,
      valid_mean_token_accuracy: outOfFold.accuracy,
    }
  },
}

function checkLabels(labels: readonly string[]): DatasetError | null {
  const tooLong = labels.find((label) => label.length > MAX_LABEL_CHARS)
  if (labels.length > MAX_LABELS || tooLong !== undefined) {
    const what =
      tooLong === undefined
        ? `${labels.length} different answers, and at most ${MAX_LABELS} may be labels`
        : `an answer of ${tooLong.length} characters, and a label has at most ${MAX_LABEL_CHARS}`
    return {
      reason: 'too_many_labels',
      message: `the file has ${what}; use the objective "target" to learn texts`,
      param: 'training_file',
    }
  }
  if (labels.length >= 2) return null
  return {
    reason: 'too_few_labels',
    message: 'all examples have the same answer; a job on labels needs at least two',
    param: 'training_file',
  }
}

function toLabelDataset(
  examples: readonly NumberedExample[],
  labels: readonly string[],
  frame: Frame,
  param: DatasetError['param'],
): Result<LabelDataset, DatasetError> {
  const indices = new Map(labels.map((label, i) => [label, i]))
  const unknown = examples.filter((numbered) => !indices.has(answerOf(numbered)))
  if (unknown.length > 0) {
    return fail({
      reason: 'unknown_label',
      message: `in line ${nameLines(unknown)}, the answer is not one of the labels`,
      param,
    })
  }
  return ok({
    labels: [...labels],
    examples: examples.map((numbered) => ({
      messages: [...applyFrame(frame, numbered.example.messages).messages],
      label: indices.get(answerOf(numbered))!,
    })),
  })
}
