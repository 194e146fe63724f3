import { describe, it } from 'vitest'
import { jitterMs, RetryBudget } from '../../../src/dispatch/retry-budget.ts'

const START_MS = 1_700_000_000_000

const takeAll = (budget: RetryBudget, nowMs: number): number => {
  let numTaken = 0
  while (budget.takeRetry(nowMs)) numTaken += 1
  return numTaken
}

describe('a retry budget', () => {
  it('has a few retries without requests, and a fifth of many requests', ({ expect }) => {
    expect(takeAll(new RetryBudget(), START_MS)).toBe(5)
    const busy = new RetryBudget()
    for (let i = 0; i < 1_000; i++) busy.addRequest(START_MS + i)
    expect(takeAll(busy, START_MS + 1_000)).toBe(200)
    expect(busy.takeRetry(START_MS + 1_001)).toBe(false)
  })

  it('forgets by and by', ({ expect }) => {
    const budget = new RetryBudget()
    for (let i = 0; i < 1_000; i++) budget.addRequest(START_MS)
    expect(takeAll(budget, START_MS)).toBe(200)
    // Half of the last window still counts, its retries as much as its requests.
    expect(takeAll(budget, START_MS + 15_000)).toBe(0)
    for (let i = 0; i < 100; i++) budget.addRequest(START_MS + 15_000)
    expect(takeAll(budget, START_MS + 15_000)).toBe(20)
    expect(takeAll(budget, START_MS + 60_000)).toBe(5)
  })

  it('begins anew when the clock jumps', ({ expect }) => {
    const budget = new RetryBudget()
    expect(takeAll(budget, START_MS)).toBe(5)
    expect(takeAll(budget, START_MS - 3_600_000)).toBe(5)
    expect(takeAll(budget, START_MS + 3_600_000)).toBe(5)
  })

  it('spreads retries up to a bound', ({ expect }) => {
    expect([0, 1, 2, 9].map((n) => jitterMs(n, 1))).toEqual([25, 50, 100, 250])
    expect(jitterMs(3, 0)).toBe(0)
  })
})
