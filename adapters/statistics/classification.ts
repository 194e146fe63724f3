import { checkExamples, type LabelLogProbs, meanLogProb } from '../objective/label-log-probs.ts'

/** `[gold][predicted]`: how many examples of one class were taken for another. */
export type ConfusionMatrix = readonly (readonly number[])[]

/** The most probable label of each example; the first of equals. */
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
    throw new RangeError(`${gold.length} gold labels, ${predicted.length} predictions`)
  }
  const matrix = Array.from({ length: numClasses }, () => new Array<number>(numClasses).fill(0))
  gold.forEach((label, i) => {
    const row = matrix[label]
    const guess = predicted[i]!
    if (row?.[guess] === undefined)
      throw new RangeError(`class ${label} or ${guess} of ${numClasses}`)
    row[guess]++
  })
  return matrix
}

/** Share of examples that are right. @throws {RangeError} no examples */
export function accuracy(matrix: ConfusionMatrix): number {
  return sum(matrix.map((row, k) => row[k]!)) / total(matrix)
}

/**
 * Mean over classes of the share that is right, so that guessing always the same class scores
 * 1 / classes. Classes without examples don't count.
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
  // +0 where all are certain and right.
  0 - meanLogProb(logProbs, gold)

/** The usual number of bins; more would hold too few of two hundred examples each. */
const DEFAULT_NUM_BINS = 10

/**
 * Expected calibration error: by bins of equal width of the prediction's probability, the distance
 * between mean probability and share right, weighted by the bins' examples.
 * @throws {RangeError} no examples, or a label outside the rows
 * Source: Guo et al. 2017, arXiv:1706.04599
 */
export function calibrationError(
  logProbs: LabelLogProbs,
  gold: readonly number[],
  numBins: number = DEFAULT_NUM_BINS,
): number {
  checkExamples(logProbs, gold)
  // Σ (confidence - right) of a bin is its examples times its distance, sign included.
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

/** How one class is found. */
export type ClassFigures = {
  readonly numExamples: number
  /** Share of the answers of this class that are right; null where none was given. */
  readonly precision: number | null
  /** Share of the class's examples that are found; null where there are none. */
  readonly recall: number | null
  /** 0 where neither is above 0. */
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
