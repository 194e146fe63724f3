import { checkExamples, type LabelLogProbs, meanLogProb } from '../objective/label-log-probs.ts'

/** `[gold][predicted]`: number of examples of class `gold` that were predicted as `predicted`. */
export type ConfusionMatrix = readonly (readonly number[])[]

/** The most probable label of each example; on a tie, the first. */
export const predictLabels = (logProbs: LabelLogProbs): number[] =>
  logProbs.map((row) => row.reduce((best, value, k) => (value > row[best]! ? k : best), 0))

/**
 * @param gold [examples], classes
 * @param predicted [examples], classes
 * @throws {RangeError} no examples, unequal lengths, or a class outside 0..numClasses-1
 */
export function confusionMatrix(
  gold: readonly number[],
  predicted: readonly number[],
  numClasses: number,
): number[][] {
  if (gold.length === 0) throw new RangeError('no examples')
  if (gold.length !== predicted.length) {
    throw new RangeError(`${gold.length} gold labels but ${predicted.length} predictions`)
  }
  const matrix = Array.from({ length: numClasses }, () => new Array<number>(numClasses).fill(0))
  gold.forEach((label, i) => {
    const row = matrix[label]
    const guess = predicted[i]!
    if (row?.[guess] === undefined)
      throw new RangeError(`class ${label} or ${guess} is not below ${numClasses}`)
    row[guess]++
  })
  return matrix
}

/** Share of examples that are answered right. @throws {RangeError} no examples */
export function accuracy(matrix: ConfusionMatrix): number {
  return sum(matrix.map((row, k) => row[k]!)) / total(matrix)
}

/**
 * Mean over classes of the share that is answered right, so that always guessing one class scores
 * 1 / classes. Classes without examples do not count.
 * @throws {RangeError} no examples
 */
export function balancedAccuracy(matrix: ConfusionMatrix): number {
  total(matrix)
  const recalls = matrix.flatMap((row, k) => (sum(row) === 0 ? [] : [row[k]! / sum(row)]))
  return sum(recalls) / recalls.length
}

/**
 * F1 of each class, weighted by how many examples it has. A class never predicted has F1 0.
 * @throws {RangeError} no examples
 */
export function weightedF1(matrix: ConfusionMatrix): number {
  const numExamples = total(matrix)
  const weighted = matrix.map((row, k) => {
    const support = sum(row)
    const predicted = sum(matrix.map((other) => other[k]!))
    return support === 0 ? 0 : (support * 2 * row[k]!) / (support + predicted)
  })
  return sum(weighted) / numExamples
}

/**
 * Mean negative log probability of the right label, in nats; lower is better.
 * @throws {RangeError} no examples, or a label outside the rows
 */
export const logLoss = (logProbs: LabelLogProbs, gold: readonly number[]): number =>
  // Subtracted from 0, because negating 0 would give -0.
  0 - meanLogProb(logProbs, gold)

/** The usual number of bins; of two hundred examples, smaller bins would hold too few. */
const DEFAULT_NUM_BINS = 10

/**
 * Expected calibration error. Predictions are put in bins of equal width by their probability; the
 * error is the distance between a bin's mean probability and its share of right answers, averaged
 * over the bins by their number of examples.
 * @throws {RangeError} no examples, or a label outside the rows
 * Source: Guo et al. 2017, arXiv:1706.04599
 */
export function calibrationError(
  logProbs: LabelLogProbs,
  gold: readonly number[],
  numBins: number = DEFAULT_NUM_BINS,
): number {
  checkExamples(logProbs, gold)
  // The sum of (confidence - right) in a bin is its number of examples times its signed distance.
  const gaps = new Array<number>(numBins).fill(0)
  predictLabels(logProbs).forEach((label, i) => {
    const confidence = Math.exp(logProbs[i]![label]!)
    const bin = Math.min(numBins - 1, Math.floor(confidence * numBins))
    gaps[bin]! += confidence - (label === gold[i] ? 1 : 0)
  })
  return sum(gaps.map(Math.abs)) / logProbs.length
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

function total(matrix: ConfusionMatrix): number {
  const numExamples = sum(matrix.map(sum))
  if (numExamples === 0) throw new RangeError('no examples')
  return numExamples
}

/** Precision, recall and F1 of one class. */
export type ClassFigures = {
  readonly numExamples: number
  /** Share of the answers of this class that are right; null if there are no such answers. */
  readonly precision: number | null
  /** Share of the class's examples that are answered right; null if it has none. */
  readonly recall: number | null
  /** 0 if the class has neither examples nor answers. */
  readonly f1: number
}

/** @returns [classes] */
export function perClass(matrix: ConfusionMatrix): ClassFigures[] {
  return matrix.map((row, k) => {
    const numExamples = sum(row)
    const numAnswers = sum(matrix.map((other) => other[k]!))
    const right = row[k]!
    return {
      numExamples,
      precision: numAnswers === 0 ? null : right / numAnswers,
      recall: numExamples === 0 ? null : right / numExamples,
      f1: numExamples + numAnswers === 0 ? 0 : (2 * right) / (numExamples + numAnswers),
    }
  })
}
