import { afterEach, beforeEach, describe, it, vi } from 'vitest'
import { WaitClock } from '../../../src/dispatch/wait-clock.ts'

const after = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

describe('a clock of waits', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('counts waits that overlap once, and the time between waits not at all', async ({
    expect,
  }) => {
    const waits = new WaitClock()
    const both = Promise.all([waits.during(after(30)), waits.during(after(50))])
    await vi.advanceTimersByTimeAsync(40)
    expect(waits.waitedMs).toBe(40)
    await vi.advanceTimersByTimeAsync(10)
    await both
    await vi.advanceTimersByTimeAsync(1000)
    expect(waits.waitedMs).toBe(50)
  })

  it('counts a wait that fails, and the time until each event', async ({ expect }) => {
    const waits = new WaitClock()
    const failed = waits.during(after(20).then(() => Promise.reject(new Error('gone'))))
    const ended = expect(failed).rejects.toThrow('gone')
    await vi.advanceTimersByTimeAsync(20)
    await ended
    async function* events() {
      await after(5)
      yield 1
      await after(7)
    }
    const read = waits.each(events())
    const first = read.next()
    await vi.advanceTimersByTimeAsync(5)
    expect((await first).value).toBe(1)
    await vi.advanceTimersByTimeAsync(100)
    const last = read.next()
    await vi.advanceTimersByTimeAsync(7)
    expect((await last).done).toBe(true)
    expect(waits.waitedMs).toBe(32)
  })
})
