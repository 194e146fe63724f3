import { describe, it } from 'vitest'
import { DEAD_AFTER_MS, Ledger } from '../../../src/limits/ledger.ts'
import type { LeaseCall } from '../../../src/limits/lease-call.ts'
import type { Limits } from '../../../src/protocol/limits.ts'

const NOW = Date.UTC(2026, 10, 30, 23, 59)
const NOTHING = { requests: 0, tokens: 0 }
const call = (project: Limits, change: Partial<LeaseCall> = {}): LeaseCall => ({
  lease: 'a',
  keyId: 'key_1',
  limits: { project, key: {} },
  unused: NOTHING,
  returned: NOTHING,
  running: 0,
  held: 0,
  settled: [],
  wants: [],
  ...change,
})
const want = { wants: [{ tokens: 10 }] }

describe('Ledger', () => {
  it('never has more than 5% of a limit with isolates in advance', ({ expect }) => {
    const ledger = new Ledger()
    let numAhead = 0
    for (let i = 0; i < 100; i++) {
      const limits = { requestsPerMinute: 1000 }
      numAhead += ledger.exchange(call(limits, { lease: `${i}`, ...want }), NOW).granted.requests
    }
    expect(numAhead).toBeGreaterThan(25)
    expect(numAhead).toBeLessThanOrEqual(50)
  })

  it('frees the places of an isolate that has died', ({ expect }) => {
    const ledger = new Ledger()
    const limits = { concurrentRequests: 1 }
    expect(ledger.exchange(call(limits, want), NOW).outcomes).toEqual([null])
    const other = call(limits, { lease: 'b', ...want })
    expect(ledger.exchange(other, NOW + DEAD_AFTER_MS).outcomes[0]?.limit).toBe(
      'concurrentRequests',
    )
    // One that lives says so.
    ledger.exchange(call(limits, { running: 1, held: 1 }), NOW + DEAD_AFTER_MS)
    expect(ledger.exchange(other, NOW + DEAD_AFTER_MS + 1).outcomes[0]).not.toBeNull()
    expect(ledger.exchange(other, NOW + 2 * DEAD_AFTER_MS + 2).outcomes).toEqual([null])
  })

  it('counts a settlement once, however often it is sent', ({ expect }) => {
    const ledger = new Ledger()
    // Too small for anything in advance.
    const limits = { tokensPerMinute: 19 }
    ledger.exchange(call(limits, want), NOW)
    const settled = [{ seq: 1, tokens: 7, admittedAgoMs: 0 }]
    ledger.exchange(call(limits, { settled }), NOW)
    const { standings } = ledger.exchange(call(limits, { settled }), NOW)
    expect(standings.tokens?.remaining).toBe(19 - 10 - 7)
  })

  it('begins a budget anew with the month', ({ expect }) => {
    const ledger = new Ledger()
    const limits = { tokensPerMonth: 10 }
    expect(ledger.exchange(call(limits, want), NOW).outcomes).toEqual([null])
    const [refusal] = ledger.exchange(call(limits, want), NOW).outcomes
    expect(refusal).toMatchObject({ limit: 'tokensPerMonth', retryAfterMs: 60_000 })
    expect(ledger.exchange(call(limits, want), NOW + 60_000).outcomes).toEqual([null])
  })

  it('goes on with its counts after a restart', ({ expect }) => {
    const ledger = new Ledger()
    const limits = { requestsPerMinute: 1 }
    ledger.exchange(call(limits, want), NOW)
    const next = new Ledger()
    next.restore('project', ledger.state('project')!)
    expect(next.exchange(call(limits, want), NOW + 59_000).outcomes[0]?.retryAfterMs).toBe(1_000)
  })
})
