import { LOG_PROB_FLOOR } from '../objective/label-log-probs.ts'
import { meanInterval, signFlipTest, smallestDetectable } from '../statistics/paired-test.ts'
import { GUARD_LEVEL, GUARD_POWER, meanByGroup, type Outcome } from './verdict.ts'

export type TextVerdict = {
  readonly outcome: Exclude<Outcome, 'bias_only'>
  /** Mean gain over the base model, in the unit of `differences`. */
  readonly gain: number
  readonly pValue: number
  readonly interval: readonly [number, number] | null
  readonly smallestDetectableGain: number | null
  /** Number of examples; those with the same input count once. */
  readonly numExamples: number
}

/**
 * Judges an adapter that was learnt from texts by its out-of-fold log probabilities or a grader's
 * scores. It is `proven` if they beat the base model's in a paired one-sided sign-flip test. It is
 * `promising` if only their mean is above the base model's. Texts have no label bias.
 * @param differences out-of-fold value less the base model's, [examples]
 * @param groups group of each example, [examples]; a group, such as one repeated input, counts once
 * @param hasAdapter whether the search found a rotation
 * @throws {RangeError} no examples, or the lengths differ
 */
export function judgeTexts(
  differences: readonly number[],
  { groups, hasAdapter }: { readonly groups: readonly number[]; readonly hasAdapter: boolean },
): TextVerdict {
  const own = meanByGroup(differences, groups)
  const gain = own.reduce((sum, value) => sum + value, 0) / own.length
  const pValue = signFlipTest(own)
  const found = {
    gain,
    pValue,
    interval: meanInterval(own),
    smallestDetectableGain: smallestDetectable(own, GUARD_LEVEL, GUARD_POWER),
    numExamples: own.length,
  }
  if (!hasAdapter || gain <= 0) return { outcome: 'no_gain', ...found }
  return { outcome: pValue <= GUARD_LEVEL ? 'proven' : 'promising', ...found }
}

/**
 * Differences of the log probabilities of whole targets, divided by the mean target length, so that
 * their mean is the gain per token.
 * @param base log probability of each whole target under the base model, [examples], nats
 * @param adapter the same under the adapter, [examples]
 * @param numTokens number of tokens in each target, [examples]
 * @returns nats, [examples]
 * @throws {RangeError} the lengths differ
 */
export function targetDifferences(
  base: readonly number[],
  adapter: readonly number[],
  numTokens: readonly number[],
): number[] {
  if (base.length !== adapter.length || base.length !== numTokens.length) {
    throw new RangeError(
      `${base.length} and ${adapter.length} log probabilities for ${numTokens.length} targets`,
    )
  }
  const averageLen = numTokens.reduce((sum, count) => sum + count, 0) / numTokens.length
  const floored = (value: number, i: number) => Math.max(value, LOG_PROB_FLOOR * numTokens[i]!)
  return adapter.map((value, i) => (floored(value, i) - floored(base[i]!, i)) / averageLen)
}
