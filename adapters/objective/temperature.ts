import { checkExamples, logSumExp, meanLogProb, type LabelLogProbs } from './label-log-probs.ts'

/**
 * A temperature below 1 would sharpen the fit's probabilities on the evidence of about twenty
 * examples. One later error then costs more log loss than the sharpening gained
 * (docs/decisions/0010-guard.md).
 */
export const MIN_TEMPERATURE = 1
/** A higher temperature means only that there were too few examples. */
export const MAX_TEMPERATURE = 10
/** Weight of the squared log temperature, in examples, so that more examples outweigh it. */
const TEMPERATURE_RIDGE = 1
/** Golden-section steps; they find the log temperature to 1e-6. */
const NUM_STEPS = 32
const GOLDEN = (Math.sqrt(5) - 1) / 2

/**
 * Divides log probabilities by a temperature and renormalises them over the labels. The ranking of the
 * labels does not change. A temperature above 1 makes predictions less sure.
 * @throws {RangeError} the temperature is not above 0
 * Source: Guo et al. 2017, arXiv:1706.04599
 */
export function applyTemperature(logProbs: LabelLogProbs, temperature: number): number[][] {
  if (!(temperature > 0)) throw new RangeError(`the temperature ${temperature} is not above 0`)
  return logProbs.map((row) => {
    const scaled = row.map((value) => value / temperature)
    const total = logSumExp(scaled)
    return scaled.map((value) => value - total)
  })
}

/**
 * Fits the temperature T that maximises Σ log P(right label) − TEMPERATURE_RIDGE·ln² T. The predictions
 * must be out of fold: predictions for examples that were learnt from are too sure.
 * @param logProbs [examples][labels]
 * @returns between MIN_TEMPERATURE and MAX_TEMPERATURE
 * @throws {RangeError} no examples, or the lengths differ
 */
export function fitTemperature(logProbs: LabelLogProbs, gold: readonly number[]): number {
  checkExamples(logProbs, gold)
  const value = (log: number): number =>
    meanLogProb(applyTemperature(logProbs, Math.exp(log)), gold) -
    (TEMPERATURE_RIDGE / gold.length) * log * log
  // The likelihood is concave in 1/T, so without the ridge it has one maximum in ln T too.
  let low = Math.log(MIN_TEMPERATURE)
  let high = Math.log(MAX_TEMPERATURE)
  for (let step = 0; step < NUM_STEPS; step++) {
    const left = high - GOLDEN * (high - low)
    const right = low + GOLDEN * (high - low)
    if (value(left) < value(right)) low = left
    else high = right
  }
  return Math.exp((low + high) / 2)
}
