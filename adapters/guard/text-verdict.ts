import { LOG_PROB_FLOOR } from '../objective/label-log-probs.ts'
import { meanInterval, signFlipTest, smallestDetectable } from '../statistics/paired-test.ts'
import { GUARD_LEVEL, GUARD_POWER, meanByGroup, type Outcome } from './verdict.ts'

export type TextVerdict = {
  readonly outcome: Exclude<Outcome, 'bias_only'>
  /** Mean gain over the base model, in the unit of the differences. */
  readonly gain: number
  readonly pValue: number
  readonly interval: readonly [number, number] | null
  readonly smallestDetectableGain: number | null
  /** Examples that count: repeated inputs count once. */
  readonly numExamples: number
}

/**
 * Decides what becomes of what was learnt from texts. It is proven where its out-of-fold log
 * probabilities, or a grader's scores, beat the base model's by a paired one-sided sign-flip test, and
 * promising where their mean is above the base model's without that. A label bias has no meaning for
 * texts.
 * @param differences of each example, what was learnt without it less the base model; [examples]
 * @param groups equal for examples that count as one, as repeated inputs; [examples]
 * @param hasAdapter whether the search found a rotation at all
 * @throws {RangeError} no examples, or lengths that differ
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
 * Differences of whole targets' log probabilities, nats a token of an average target: their mean is the
 * gain a token.
 * @param base the base model's log probability of each whole target, [examples]
 * @param adapter the same by what was learnt, [examples]
 * @param numTokens tokens of each target, [examples]
 * @throws {RangeError} lengths that differ
 */
export function targetDifferences(
  base: readonly number[],
  adapter: readonly number[],
  numTokens: readonly number[],
): number[] {
  if (base.length !== adapter.length || base.length !== numTokens.length) {
    throw new RangeError(`${base.length} and ${adapter.length} sums of ${numTokens.length} targets`)
  }
  const averageLen = numTokens.reduce((sum, count) => sum + count, 0) / numTokens.length
  const floored = (value: number, i: number) => Math.max(value, LOG_PROB_FLOOR * numTokens[i]!)
  return adapter.map((value, i) => (floored(value, i) - floored(base[i]!, i)) / averageLen)
}
