import {
  applyBias,
  batchCalibration,
  type LabelLogProbs,
} from '../../adapters/objective/label-log-probs.ts'
import {
  accuracy,
  balancedAccuracy,
  calibrationError,
  confusionMatrix,
  logLoss,
  perClass,
  predictLabels,
  weightedF1,
} from '../../adapters/statistics/classification.ts'
import { knowledgeTest, type AnsweredSet } from '../../adapters/statistics/knowledge.ts'
import type {
  BaseKnowledge,
  ClassificationMetrics,
  EvaluationReport,
} from '../protocol/openai/job-report.ts'

/**
 * The labels' log probabilities on the same examples: the base model's, and the version's as it
 * serves.
 */
export type ScoredExamples = {
  readonly gold: readonly number[]
  readonly base: LabelLogProbs
  readonly adapter: LabelLogProbs
}

/**
 * @param calibration the base model's log probabilities on the training examples, which give the
 * calibrated base its bias; the examples' labels are not used
 */
export function reportExamples(
  { gold, base, adapter }: ScoredExamples,
  calibration: LabelLogProbs,
): EvaluationReport {
  const calibrated = applyBias(base, batchCalibration(calibration))
  return {
    num_examples: gold.length,
    base: measure(base, gold),
    calibrated_base: measure(calibrated, gold),
    adapter: measure(adapter, gold),
  }
}

/** Among tasks of which the base model knows nothing, this share may be taken for known ones. */
const KNOWLEDGE_LEVEL = 0.05

/**
 * @param training the base model's answers to the training examples
 * @param groups the same number for training examples with the same input, which count once
 */
export function reportKnowledge(
  training: AnsweredSet,
  groups: readonly number[],
  validation: AnsweredSet | null,
): BaseKnowledge {
  const firsts = groups.flatMap((group, i) => (groups.indexOf(group) === i ? [i] : []))
  const distinct = {
    logProbs: firsts.map((i) => training.logProbs[i]!),
    gold: firsts.map((i) => training.gold[i]!),
  }
  const sets = validation === null ? [distinct] : [distinct, validation]
  return {
    test: 'one-sided permutation of the right labels, by their log probability',
    p_value: knowledgeTest(sets),
    level: KNOWLEDGE_LEVEL,
    num_examples: sets.reduce((sum, { gold }) => sum + gold.length, 0),
  }
}

export function measure(logProbs: LabelLogProbs, gold: readonly number[]): ClassificationMetrics {
  const numLabels = logProbs[0]?.length ?? 0
  const confusion = confusionMatrix(gold, predictLabels(logProbs), numLabels)
  return {
    accuracy: accuracy(confusion),
    balanced_accuracy: balancedAccuracy(confusion),
    weighted_f1: weightedF1(confusion),
    log_loss: logLoss(logProbs, gold),
    calibration_error: calibrationError(logProbs, gold),
    confusion,
    per_class: perClass(confusion).map(({ numExamples, precision, recall, f1 }) => ({
      num_examples: numExamples,
      precision,
      recall,
      f1,
    })),
  }
}
