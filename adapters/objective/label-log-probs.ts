/** `[example][label]`: natural log of P(label) along the label trie; a row's probabilities sum to 1. */
export type LabelLogProbs = readonly (readonly number[])[]

/**
 * The least a log probability counts for. A label of probability zero (a float32 softmax reaches it
 * at e^-104) would otherwise make every mean, and with it every trial, -Infinity alike.
 */
export const LOG_PROB_FLOOR = -100

/**
 * Mean log probability of the right label: the objective of a job, higher is better, at most 0.
 * @param gold [examples], indices of labels
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
 * Batch calibration: the bias that takes away what the model prefers whatever it reads, estimated
 * as each label's mean log probability over unlabelled examples, negated.
 * @returns [labels], centred: sums to 0, as adding a constant to all labels changes nothing
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
    throw new RangeError(`a bias of ${bias.length} labels for rows of ${logProbs[0]!.length}`)
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
      throw new RangeError(`label ${label} of ${numLabels}`)
    }
  }
}

/** @returns the number of labels, the same for every example */
function checkRows(logProbs: LabelLogProbs): number {
  const first = logProbs[0]
  if (first === undefined || first.length === 0) throw new RangeError('no examples or no labels')
  if (logProbs.some((row) => row.length !== first.length)) {
    throw new RangeError('rows of unequal numbers of labels')
  }
  return first.length
}
