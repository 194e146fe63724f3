import { createRng } from '../optimise/rng.ts'

/** The ends of a 95% interval are then accurate to about a twentieth of its width. */
const NUM_RESAMPLES = 2_000
/** Stream of the generator. Its seed is fixed, so the same answers give the same interval. */
const STREAM = 40
const LEVEL = 0.95

/**
 * 95% percentile bootstrap interval of the difference in accuracy between two answerers of the same
 * examples. An example counts 1 if only the first answers it right, −1 if only the second does,
 * otherwise 0; resampling examples is resampling these.
 * @param won examples that only the first answers right
 * @param lost examples that only the second answers right
 * @param numExamples all examples
 * @returns null if no example counts 1 or −1: resampling then says nothing about the next example
 * @throws {RangeError} no examples, or more differ than there are
 * Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13
 */
export function accuracyDifferenceInterval(
  won: number,
  lost: number,
  numExamples: number,
): readonly [number, number] | null {
  if (numExamples < 1 || won < 0 || lost < 0 || won + lost > numExamples) {
    throw new RangeError(`${won} won and ${lost} lost of ${numExamples} examples`)
  }
  if (won + lost === 0) return null
  const rng = createRng(0, STREAM)
  const differences = new Float64Array(NUM_RESAMPLES)
  for (let draw = 0; draw < NUM_RESAMPLES; draw++) {
    let sum = 0
    for (let i = 0; i < numExamples; i++) {
      const place = rng.uniform() * numExamples
      if (place < won) sum += 1
      else if (place < won + lost) sum -= 1
    }
    differences[draw] = sum / numExamples
  }
  differences.sort()
  const tail = (1 - LEVEL) / 2
  return [quantile(differences, tail), quantile(differences, 1 - tail)]
}

/** Linear between the two nearest order statistics, as NumPy's default is. */
function quantile(ascending: Float64Array, share: number): number {
  const place = share * (ascending.length - 1)
  const below = Math.floor(place)
  const low = ascending[below]!
  return low + (place - below) * ((ascending[below + 1] ?? low) - low)
}
