import { describe, test } from 'vitest'
import { Pace, retryAfterSeconds } from '../../../gpu-runner/scheduler/backlog.ts'

describe('Retry-After', () => {
  const pace = new Pace()
  pace.addPrefill(128, 64)
  pace.addStep(20)
  pace.addAnswer(50)

  test('follows prompts to compute and tokens to generate, at the measured pace', ({ expect }) => {
    // 1,000 tokens at half a millisecond; 32 rows of 50 tokens, 16 at once, at 20 ms.
    const backlog = { promptTokens: 1000, rowLimits: new Array<number>(32).fill(500) }
    expect(pace.drainMs(backlog, 16)).toBeCloseTo(500 + 100 * 20, 6)
    // Rows whose limit is below the mean answer count with their limit.
    const short = { promptTokens: 0, rowLimits: new Array<number>(32).fill(10) }
    expect(pace.drainMs(short, 16)).toBeCloseTo(20 * 20, 6)
  })

  test('is measured as a moving average', ({ expect }) => {
    const changing = new Pace()
    for (let i = 0; i < 100; i++) changing.addStep(10)
    for (let i = 0; i < 100; i++) changing.addStep(30)
    const ms = changing.drainMs({ promptTokens: 0, rowLimits: [1] }, 1)
    expect(ms).toBeGreaterThan(29.9)
    expect(ms).toBeLessThan(30)
  })

  test('is a whole number of seconds, from one to sixty', ({ expect }) => {
    expect(retryAfterSeconds(new Pace().drainMs({ promptTokens: 9, rowLimits: [9] }, 1))).toBe(1)
    expect(retryAfterSeconds(2001)).toBe(3)
    expect(retryAfterSeconds(1e9)).toBe(60)
  })
})
