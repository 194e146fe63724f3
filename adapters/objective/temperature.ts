import { checkExamples, logSumExp, meanLogProb, type LabelLogProbs } from './label-log-probs.ts'

/**
 * A temperature below 1 would make predictions surer than the fit itself is, on the word of some
 * twenty examples: one error among the next then costs more than all of them gained (decision 10).
 */
export const MIN_TEMPERATURE = 1
/** Beyond this a temperature says only that the examples were too few. */
export const MAX_TEMPERATURE = 10
/** Weight of the squared log temperature, in examples: it counts for less the more there are. */
const TEMPERATURE_RIDGE = 1
/** Golden-section steps: the log temperature to 1e-6. */
const NUM_STEPS = 32
const GOLDEN = (Math.sqrt(5) - 1) / 2

/**
 * Divides log probabilities by a temperature and renormalises them over the labels; the order of the
 * labels stays. Above 1 predictions become less sure.
 * @throws {RangeError} a temperature not above 0
 * Source: Guo et al. 2017, arXiv:1706.04599
 */
export function applyTemperature(logProbs: LabelLogProbs, temperature: number): number[][] {
  if (!(temperature > 0)) throw new RangeError(`temperature ${temperature}`)
  return logProbs.map((row) => {
    const scaled = row.map((value) => value / temperature)
    const total = logSumExp(scaled)
    return scaled.map((value) => value - total)
  })
}

/**
 * The temperature under which predictions are likeliest: the maximum of the sum of
 * log P(right label) − TEMPERATURE_RIDGE·ln² T. Of predictions for examples that were learnt from it says nothing; give
 * it out-of-fold ones.
 * @param logProbs [examples][labels]
 * @returns within MIN_TEMPERATURE and MAX_TEMPERATURE
 * @throws {RangeError} no examples, or lengths that differ
 */
export function fitTemperature(logProbs: LabelLogProbs, gold: readonly number[]): number {
  checkExamples(logProbs, gold)
  const value = (log: number): number =>
    meanLogProb(applyTemperature(logProbs, Math.exp(log)), gold) -
    (TEMPERATURE_RIDGE / gold.length) * log * log
  // Concave in 1/T without the ridge, hence with one maximum in ln T too.
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
