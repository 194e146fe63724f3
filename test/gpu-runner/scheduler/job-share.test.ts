import fc from 'fast-check'
import { describe, test } from 'vitest'
import { JobShare } from '../../../gpu-runner/scheduler/job-share.ts'

const LONGEST_STEP_MS = 200
const MAX_STEPS = 60

/** Live and job steps of random lengths through the share, with live requests there throughout. */
function contend(share: JobShare, steps: readonly { liveMs: number; jobMs: number }[]) {
  let now = 0
  let jobTotal = 0
  let worstExcess = -Infinity
  // A period may begin at any moment, so all of them are checked.
  const starts: { at: number; job: number }[] = [{ at: 0, job: 0 }]
  share.setLive(true, now)
  for (const { liveMs, jobMs } of steps) {
    if (share.mayRun(now)) {
      share.setJobRunning(true, now)
      now += jobMs
      share.setJobRunning(false, now)
      jobTotal += jobMs
    }
    for (const { at, job } of starts) {
      worstExcess = Math.max(worstExcess, jobTotal - job - share.share * (now - at))
    }
    now += liveMs
    if (starts.length < MAX_STEPS) starts.push({ at: now, job: jobTotal })
  }
  return { now, jobTotal, worstExcess }
}

const stepsArbitrary = fc.array(
  fc.record({
    liveMs: fc.integer({ min: 1, max: LONGEST_STEP_MS }),
    jobMs: fc.integer({ min: 1, max: LONGEST_STEP_MS }),
  }),
  { minLength: 1, maxLength: MAX_STEPS },
)
const shareArbitrary = fc.integer({ min: 1, max: 99 }).map((percent) => percent / 100)

describe('the share of jobs', () => {
  test('over any period beside live requests is at most the setting and one step', ({ expect }) => {
    fc.assert(
      fc.property(shareArbitrary, stepsArbitrary, (limit, steps) => {
        const { worstExcess } = contend(new JobShare(limit), steps)
        expect(worstExcess).toBeLessThanOrEqual((1 - limit) * LONGEST_STEP_MS + 1e-6)
      }),
    )
  })

  test('approaches the setting if both always have work', ({ expect }) => {
    for (const limit of [0.1, 0.3, 0.7]) {
      const share = new JobShare(limit)
      const steps = Array.from({ length: 20_000 }, () => ({ liveMs: 10, jobMs: 60 }))
      const { now, jobTotal } = contend(share, steps)
      expect(jobTotal / now).toBeLessThanOrEqual(limit + 0.001)
      expect(jobTotal / now).toBeGreaterThan(limit - 0.05)
      expect(share.measured(now)).toBeGreaterThan(limit - 0.06)
    }
  })

  test('is all of the time without live requests, and makes no debt', ({ expect }) => {
    const share = new JobShare(0.3)
    let now = 0
    for (let step = 0; step < 50; step++) {
      expect(share.mayRun(now)).toBe(true)
      share.setJobRunning(true, now)
      now += 100
      share.setJobRunning(false, now)
    }
    share.setLive(true, now)
    expect(share.mayRun(now)).toBe(true)
    expect(share.measured(now)).toBe(0)
  })

  test('a step during which live requests arrive counts from their arrival', ({ expect }) => {
    const share = new JobShare(0.5)
    share.setJobRunning(true, 0)
    share.setLive(true, 60)
    share.setJobRunning(false, 100)
    expect(share.mayRun(139)).toBe(false)
    expect(share.mayRun(140)).toBe(true)
  })

  test('short gaps between live requests pay a debt only by their length', ({ expect }) => {
    const share = new JobShare(0.3)
    share.setLive(true, 0)
    share.setJobRunning(true, 0)
    share.setJobRunning(false, 70)
    share.setLive(false, 77)
    // 7 ms of live time pay 3 of the 70; quiet time pays the rest.
    expect(share.quietMsNeeded(77)).toBeCloseTo(67, 6)
    share.setLive(true, 82)
    expect(share.quietMsNeeded(82)).toBeNull()
    expect(share.mayRun(82)).toBe(false)
    share.setLive(false, 90)
    expect(share.mayRun(90 + 59)).toBe(true)
  })
})
