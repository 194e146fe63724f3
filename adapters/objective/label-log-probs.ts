/** `[example][label]`: ln P(label) by the label trie; the probabilities in a row sum to 1. */
export type LabelLogProbs = readonly (readonly number[])[]

/**
 * Means count any lower log probability as this one. Otherwise one label of probability zero (a float32
 * softmax rounds e^-104 to it) would make the value of every trial -Infinity.
 */
export const LOG_PROB_FLOOR = -100

/**
 * Mean log probability of the right label: the objective of a job on labels.
 * @param gold [examples], indices of labels
 * @returns natural log, at most 0; higher is better
 * @throws {RangeError} no examples, another number of gold labels, or a label outside a row
 */
export function meanLogProb(logProbs: LabelLogProbs, gold: readonly number[]): number {
  checkExamples(logProbs, gold)
  let sum = 0
  logProbs.forEach((row, i) => {
    sum += Math.max(row[gold[i]!]!, LOG_PROB_FLOOR)
  })
  return sum / logProbs.length
}

/**
 * Batch calibration: the bias that cancels the model's preference for some labels. It is the negated
 * mean log probability of each label over unlabelled examples.
 * @returns [labels], centred to sum to 0, because a constant added to all labels changes nothing
 * @throws {RangeError} no examples, or rows of unequal lengths
 * Source: Zhou et al. 2023, arXiv:2309.17249, on log probabilities
 */
export function batchCalibration(logProbs: LabelLogProbs): number[] {
  const numLabels = checkRows(logProbs)
  const bias = new Array<number>(numLabels).fill(0)
  for (const row of logProbs) {
    for (let k = 0; k < numLabels; k++) bias[k]! -= Math.max(row[k]!, LOG_PROB_FLOOR)
  }
  const means = bias.map((sum) => sum / logProbs.length)
  const center = means.reduce((sum, value) => sum + value, 0) / numLabels
  return means.map((value) => value - center)
}

/**
 * Adds a bias to every row and renormalises it over the labels.
 * @param bias [labels]
 * @returns rows whose probabilities sum to 1
 * @throws {RangeError} no examples, or a row of another length than the bias
 */
export function applyBias(logProbs: LabelLogProbs, bias: readonly number[]): number[][] {
  if (checkRows(logProbs) !== bias.length) {
    throw new RangeError(`a bias for ${bias.length} labels, but rows with ${logProbs[0]!.length}`)
  }
  return logProbs.map((row) => {
    const moved = row.map((value, k) => value + bias[k]!)
    const total = logSumExp(moved)
    return moved.map((value) => value - total)
  })
}

/** ln Σ e^value, without overflow. */
export function logSumExp(values: readonly number[]): number {
  const largest = Math.max(...values)
  if (!Number.isFinite(largest)) return largest
  return largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0))
}

/** @throws {RangeError} no examples, another number of gold labels, or a label outside a row */
export function checkExamples(logProbs: LabelLogProbs, gold: readonly number[]): void {
  const numLabels = checkRows(logProbs)
  if (gold.length !== logProbs.length) {
    throw new RangeError(`${gold.length} gold labels for ${logProbs.length} examples`)
  }
  for (const label of gold) {
    if (!Number.isInteger(label) || label < 0 || label >= numLabels) {
      throw new RangeError(`label ${label} is not one of ${numLabels}`)
    }
  }
}

/** @returns the number of labels, the same for every example */
function checkRows(logProbs: LabelLogProbs): number {
  const first = logProbs[0]
  if (first === undefined || first.length === 0) throw new RangeError('no examples or no labels')
  if (logProbs.some((row) => row.length !== first.length)) {
    throw new RangeError('the rows have unequal numbers of labels')
  }
  return first.length
}
