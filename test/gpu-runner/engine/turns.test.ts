import { describe, test } from 'vitest'
import { Turns, type Lane } from '../../../gpu-runner/engine/turns.ts'

const STEP_MS: Readonly<Record<Lane, number>> = { live: 7, job: 60 }

/** Turns with a clock that only work advances. */
function createClock(share: number) {
  const clock = { ms: 0 }
  const turns = new Turns(share, () => clock.ms)
  const spent: Record<Lane, number> = { live: 0, job: 0 }
  const order: Lane[] = []
  const step = (lane: Lane): Promise<void> =>
    turns.run(lane, async () => {
      order.push(lane)
      await Promise.resolve()
      clock.ms += STEP_MS[lane]
      spent[lane] += STEP_MS[lane]
    })
  return { clock, turns, spent, order, step }
}

describe('turns', () => {
  test('give a job its share beside live steps, and never two at once', async ({ expect }) => {
    for (const share of [0.1, 0.3, 0.6]) {
      const { clock, turns, spent, order, step } = createClock(share)
      turns.setLive(true)
      const state = { isLive: true }
      const job = (async () => {
        while (state.isLive) await step('job')
      })()
      for (let i = 0; i < 2000; i++) await step('live')
      const ofJobs = spent.job / (spent.job + spent.live)
      expect(ofJobs).toBeLessThan(share + 0.01)
      expect(ofJobs).toBeGreaterThan(share - 0.02)
      expect(order.join(' ')).not.toContain('job job')
      state.isLive = false
      turns.setLive(false)
      clock.ms += STEP_MS.job
      await job
    }
  })

  test('give a job all of the time once live requests are gone and quiet time has paid its debt', async ({
    expect,
  }) => {
    const { clock, turns, order, step } = createClock(0.3)
    turns.setLive(true)
    await step('job')
    const waiting = step('job')
    await step('live')
    expect(order).toEqual(['job', 'live'])
    turns.setLive(false)
    // 60 ms less 7 · 0.3 / 0.7: the timer is real, and the clock says when it is enough.
    clock.ms += 57
    await waiting
    for (let i = 0; i < 5; i++) await step('job')
    expect(order.slice(2)).toEqual(new Array<Lane>(6).fill('job'))
  })

  test('continue after failed work', async ({ expect }) => {
    const { step, turns } = createClock(0.3)
    await expect(turns.run('job', () => Promise.reject(new Error('broken')))).rejects.toThrow(
      'broken',
    )
    await expect(turns.run('live', () => Promise.reject(new Error('too')))).rejects.toThrow('too')
    await step('live')
    await step('job')
  })
})
