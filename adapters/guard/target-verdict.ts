import { LOG_PROB_FLOOR } from '../objective/label-log-probs.ts'
import { meanInterval, signFlipTest, smallestDetectable } from '../statistics/paired-test.ts'
import { GUARD_LEVEL, GUARD_POWER, meanByGroup } from './verdict.ts'

export type TargetVerdict = {
  readonly outcome: 'published' | 'no_gain' | 'inconclusive'
  /** Mean gain in log probability over the base model, nats a token of an average target. */
  readonly gain: number
  readonly pValue: number
  readonly interval: readonly [number, number] | null
  readonly smallestDetectableGain: number | null
}

/**
 * Decides whether what was learnt from texts is published: their out-of-fold log probabilities have to
 * beat the base model's by a paired one-sided sign-flip test. There is one answer and one reference,
 * so the level is not shared: a bias or a constant answer has no meaning for texts.
 * @param base the base model's log probability of each whole target, [examples]
 * @param adapter the same by what was learnt without the example, [examples]
 * @param numTokens tokens of each target, [examples]; they scale what is said, not the test
 * @param groups equal for examples that count as one, as repeated inputs; [examples]
 * @param hasAdapter whether the search found a rotation at all
 * @throws {RangeError} no examples, or lengths that differ
 */
export function judgeTargets(
  base: readonly number[],
  adapter: readonly number[],
  {
    numTokens,
    groups,
    hasAdapter,
  }: {
    readonly numTokens: readonly number[]
    readonly groups: readonly number[]
    readonly hasAdapter: boolean
  },
): TargetVerdict {
  if (base.length !== adapter.length || base.length !== numTokens.length) {
    throw new RangeError(`${base.length} and ${adapter.length} sums of ${numTokens.length} targets`)
  }
  const averageLen = numTokens.reduce((sum, count) => sum + count, 0) / numTokens.length
  const floored = (value: number, i: number) => Math.max(value, LOG_PROB_FLOOR * numTokens[i]!)
  const differences = meanByGroup(
    adapter.map((value, i) => (floored(value, i) - floored(base[i]!, i)) / averageLen),
    groups,
  )
  const gain = differences.reduce((sum, value) => sum + value, 0) / differences.length
  const pValue = signFlipTest(differences)
  const found = {
    gain,
    pValue,
    interval: meanInterval(differences),
    smallestDetectableGain: smallestDetectable(differences, GUARD_LEVEL, GUARD_POWER),
  }
  if (!hasAdapter || gain <= 0) return { outcome: 'no_gain', ...found }
  return { outcome: pValue <= GUARD_LEVEL ? 'published' : 'inconclusive', ...found }
}
