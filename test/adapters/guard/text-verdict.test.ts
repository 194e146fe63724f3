import { describe, it } from 'vitest'
import { judgeTexts, targetDifferences } from '../../../adapters/guard/text-verdict.ts'
import { meanTokenLogProb } from '../../../adapters/objective/target-log-probs.ts'

const base = [-20, -30, -12, -40, -25, -18, -33, -21]
const numTokens = [5, 10, 4, 12, 8, 6, 11, 8]
const groups = base.map((_, i) => i)
const judged = (adapter: readonly number[], options: object = {}) =>
  judgeTexts(targetDifferences(base, adapter, numTokens), { groups, hasAdapter: true, ...options })

describe('the guard of targets', () => {
  it('proves an adapter that makes every target likelier, and gives the gain per token', ({
    expect,
  }) => {
    const verdict = judged(base.map((value, i) => value + 0.5 * numTokens[i]!))
    expect(verdict.outcome).toBe('proven')
    // Of all 2^8 sign patterns only the observed one reaches its sum.
    expect(verdict.pValue).toBe(2 ** -8)
    expect(verdict.gain).toBeCloseTo(0.5, 12)
    expect(verdict.interval![0]).toBeLessThan(0.5)
    expect(verdict.interval![1]).toBeGreaterThan(0.5)
  })

  it('is only promising if two of eight targets lose as much as the others gain', ({ expect }) => {
    const verdict = judged(base.map((value, i) => value + (i < 2 ? -6 : 4)))
    expect(verdict.outcome).toBe('promising')
    expect(verdict.gain).toBeGreaterThan(0)
    expect(verdict.pValue).toBeGreaterThan(0.05)
  })

  it('sees no gain where there is none, or no adapter', ({ expect }) => {
    expect(judged(base).outcome).toBe('no_gain')
    expect(judged(base.map((value) => value - 1)).outcome).toBe('no_gain')
    const better = base.map((value) => value + 3)
    expect(judged(better, { hasAdapter: false }).outcome).toBe('no_gain')
  })

  it('counts examples with the same input once', ({ expect }) => {
    const verdict = judged(
      base.map((value) => value + 3),
      { groups: [0, 0, 0, 0, 4, 4, 4, 4] },
    )
    expect(verdict.pValue).toBe(2 ** -2)
    expect(verdict.outcome).toBe('promising')
  })

  it('refuses log probabilities that do not match the targets', ({ expect }) => {
    expect(() => judged(base.slice(1))).toThrow(RangeError)
  })
})

describe('the mean of tokens', () => {
  it('weighs every token equally, and no token below the floor', ({ expect }) => {
    expect(meanTokenLogProb([-2, -9], [1, 3])).toBe(-11 / 4)
    expect(meanTokenLogProb([-Infinity, 0], [2, 2])).toBe(-50)
    expect(() => meanTokenLogProb([-1], [1, 1])).toThrow(RangeError)
    expect(() => meanTokenLogProb([], [])).toThrow(RangeError)
  })
})
