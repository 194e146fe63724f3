/**
 * Further divisions of a job's examples into folds. One division's predictions are noisy: whether twenty
 * examples show that something was learnt may depend on which of them share a fold.
 */
import type { LabelLogProbs } from '../objective/label-log-probs.ts'
import { centreLogOdds, learntTest, type LearntTest } from '../statistics/learnt-test.ts'

/** How the examples are divided again. */
export type PartitionSpec = {
  /** Added to the job's seed, so that other examples share a fold. */
  readonly seedOffset: number
  /** The most folds; there are fewer if there are fewer inputs. */
  readonly numFolds: number
}

/**
 * Fixed before they were measured on shuffled labels, and after they were on true ones
 * (docs/decisions/0010-guard.md).
 */
export const FURTHER_PARTITIONS: readonly PartitionSpec[] = [
  { seedOffset: 1000, numFolds: 5 },
  { seedOffset: 2000, numFolds: 10 },
]

/**
 * With more inputs than this the examples are not divided again: one division says enough, and further
 * fits take minutes.
 */
export const MAX_REPEATED_INPUTS = 64

/** A learnt answer's predictions of one partition. */
export type PartitionPredictions = {
  /** Fold of each example, [examples]. */
  readonly folds: readonly number[]
  /** Out of fold, [examples][labels]. */
  readonly predictions: LabelLogProbs
}

/**
 * The guard's permutation test on the mean of several partitions. Each one's log odds are centred in its
 * folds and clipped, as `learntTest` does it; then they are averaged. The labels are permuted among all
 * examples, since no two examples share a fold in every partition.
 * @param partitions at least one
 * @param gold right label of each example
 * @throws {RangeError} no examples, or the lengths differ
 */
export function testPartitions(
  partitions: readonly PartitionPredictions[],
  gold: readonly number[],
): LearntTest {
  const scores = partitions.map(({ folds, predictions }) => {
    if (folds.length !== gold.length || predictions.length !== gold.length) {
      throw new RangeError(
        `${predictions.length} predictions and ${folds.length} folds for ${gold.length} labels`,
      )
    }
    return centreLogOdds(predictions, folds)
  })
  const mean = gold.map((_, example) =>
    scores[0]![example]!.map(
      (__, label) => scores.reduce((sum, own) => sum + own[example]![label]!, 0) / scores.length,
    ),
  )
  const oneBlock = gold.map(() => 0)
  return learntTest(mean, gold, oneBlock)
}
