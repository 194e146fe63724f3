import { LOG_PROB_FLOOR } from './label-log-probs.ts'

/**
 * Mean log probability of a target's tokens, every token counting alike: the objective of a job on
 * texts, higher is better.
 * @param logProbs sum over each target's tokens, [examples], natural log
 * @param numTokens tokens of each target, [examples]
 * @returns natural log, a token
 * @throws {RangeError} no examples, or lengths that differ
 */
export function meanTokenLogProb(
  logProbs: readonly number[],
  numTokens: readonly number[],
): number {
  if (logProbs.length === 0 || logProbs.length !== numTokens.length) {
    throw new RangeError(`${logProbs.length} sums over ${numTokens.length} targets`)
  }
  const sum = logProbs.reduce((total, value, i) => {
    return total + Math.max(value, LOG_PROB_FLOOR * numTokens[i]!)
  }, 0)
  return sum / numTokens.reduce((total, count) => total + count, 0)
}
