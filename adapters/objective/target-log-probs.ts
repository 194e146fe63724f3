import { LOG_PROB_FLOOR } from './label-log-probs.ts'

/**
 * Mean log probability of the targets' tokens, with equal weight for every token: the objective of a
 * job on targets.
 * @param logProbs log probability of each whole target, [examples], natural log
 * @param numTokens number of tokens in each target, [examples]
 * @returns natural log per token; higher is better
 * @throws {RangeError} no examples, or the lengths differ
 */
export function meanTokenLogProb(
  logProbs: readonly number[],
  numTokens: readonly number[],
): number {
  if (logProbs.length === 0 || logProbs.length !== numTokens.length) {
    throw new RangeError(`${logProbs.length} log probabilities for ${numTokens.length} targets`)
  }
  const sum = logProbs.reduce((total, value, i) => {
    return total + Math.max(value, LOG_PROB_FLOOR * numTokens[i]!)
  }, 0)
  return sum / numTokens.reduce((total, count) => total + count, 0)
}
