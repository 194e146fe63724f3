import { afterEach, beforeEach, describe, test, vi } from 'vitest'
import type { Session } from '../../../gpu-runner/ort/index.ts'
import { LazySession } from '../../../gpu-runner/scoring/lazy-session.ts'

const IDLE_MS = 1000

function countingSession() {
  const counts = { opened: 0, released: 0, failNext: false }
  const open = (): Promise<Session> => {
    counts.opened += 1
    if (counts.failNext) return Promise.reject(new Error('no memory'))
    return Promise.resolve({
      createBinding: () => {
        throw new Error('not of this test')
      },
      release: () => void (counts.released += 1),
    })
  }
  return { counts, lazy: new LazySession(open, IDLE_MS) }
}
const nothing = () => Promise.resolve()
const loaded = (loading: Promise<Session>) => loading

describe('a lazy session', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('is opened once for concurrent and successive users', async ({ expect }) => {
    const { counts, lazy } = countingSession()
    await Promise.all([lazy.use(nothing), lazy.use(nothing)])
    await vi.advanceTimersByTimeAsync(IDLE_MS - 1)
    await lazy.use(nothing)
    expect(counts).toMatchObject({ opened: 1, released: 0 })
  })

  test('is released after its idle time, and opened again', async ({ expect }) => {
    const { counts, lazy } = countingSession()
    await lazy.use(nothing)
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(counts).toMatchObject({ opened: 1, released: 1 })
    expect(lazy.isLoaded).toBe(false)
    await lazy.use(nothing)
    expect(counts).toMatchObject({ opened: 2, released: 1 })
  })

  test('is not released while it is in use', async ({ expect }) => {
    const { counts, lazy } = countingSession()
    let finish = (): void => undefined
    const long = lazy.use(() => new Promise<void>((resolve) => (finish = resolve)))
    await lazy.use(nothing)
    await vi.advanceTimersByTimeAsync(10 * IDLE_MS)
    await lazy.release()
    expect(counts.released).toBe(0)
    finish()
    await long
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(counts.released).toBe(1)
  })

  test('is loaded again after a failed load', async ({ expect }) => {
    const { counts, lazy } = countingSession()
    counts.failNext = true
    await expect(lazy.use(loaded)).rejects.toThrow('no memory')
    counts.failNext = false
    await lazy.use(loaded)
    expect(counts.opened).toBe(2)
  })

  test('lets its user begin while it loads', async ({ expect }) => {
    let finish: (session: Session) => void = () => undefined
    const lazy = new LazySession(() => new Promise((resolve) => (finish = resolve)), IDLE_MS)
    const session: Session = { createBinding: vi.fn(), release: vi.fn() }
    const steps: string[] = []
    const used = lazy.use(async (loading) => {
      steps.push('began')
      expect(await loading).toBe(session)
      steps.push('loaded')
    })
    expect(steps).toEqual(['began'])
    finish(session)
    await used
    expect(steps).toEqual(['began', 'loaded'])
  })

  test('is loaded ahead of its user, and released if none comes', async ({ expect }) => {
    const { counts, lazy } = countingSession()
    lazy.warm()
    await lazy.use(loaded)
    expect(counts.opened).toBe(1)
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    lazy.warm()
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    expect(counts).toMatchObject({ opened: 2, released: 2 })
    counts.failNext = true
    lazy.warm()
    await vi.advanceTimersByTimeAsync(IDLE_MS)
    counts.failNext = false
    await lazy.use(loaded)
    expect(counts.opened).toBe(4)
  })
})
