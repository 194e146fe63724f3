import { env } from 'cloudflare:workers'
import { describe, it } from 'vitest'
import { exchangeWith } from '../../../src/limits/lease-pool.ts'
import { Lease, type Ticket } from '../../../src/limits/lease.ts'
import type { CallerLimits, Limits, Refusal } from '../../../src/protocol/limits.ts'

const NUM_REQUESTS = 200

/** Isolates that serve one key: each has a lease of its own, all ask the project's real object. */
function isolates(count: number, limits: CallerLimits, projectId = `p-${crypto.randomUUID()}`) {
  const calls = { count: 0 }
  const ask = exchangeWith(env, projectId)
  const exchange: typeof ask = (call) => {
    calls.count += 1
    return ask(call)
  }
  const leases = Array.from({ length: count }, () => new Lease('key_1', limits))
  const admitted: { readonly ticket: Ticket; readonly lease: Lease }[] = []
  const refused: Refusal[] = []
  const admit = async (lease: Lease, tokens: number) => {
    const outcome = await lease.admit(tokens, limits, exchange)
    if ('limit' in outcome) refused.push(outcome)
    else admitted.push({ ticket: outcome, lease })
  }
  return { leases, admitted, refused, calls, exchange, admit }
}
const ofProject = (project: Limits): CallerLimits => ({ project, key: {} })

describe('leases of several isolates', () => {
  it.for([1, 4, 16])(
    'admit a limit of requests within 5%% under 200 at once, by %d isolates',
    async (numIsolates, { expect }) => {
      const max = 120
      const { leases, admitted, admit } = isolates(
        numIsolates,
        ofProject({ requestsPerMinute: max }),
      )
      await Promise.all(
        Array.from({ length: NUM_REQUESTS }, (_, i) => admit(leases[i % numIsolates]!, 10)),
      )
      expect(admitted.length).toBeLessThanOrEqual(max)
      expect(admitted.length).toBeGreaterThanOrEqual(0.95 * max)
    },
  )

  it('admit a limit of tokens within 5% under 200 at once', async ({ expect }) => {
    const max = 12_000
    const { leases, admitted, refused, admit } = isolates(4, ofProject({ tokensPerMinute: max }))
    await Promise.all(Array.from({ length: NUM_REQUESTS }, (_, i) => admit(leases[i % 4]!, 100)))
    const used = admitted.reduce((sum, { ticket }) => sum + ticket.tokens, 0)
    expect(used).toBeLessThanOrEqual(max)
    expect(used).toBeGreaterThanOrEqual(0.95 * max)
    expect(refused[0]).toMatchObject({ limit: 'tokensPerMinute', owner: 'project', max })
  })

  it('run a limit of requests at once, and give a place to the next when one ends', async ({
    expect,
  }) => {
    const max = 100
    const { leases, admitted, admit, exchange } = isolates(
      4,
      ofProject({ concurrentRequests: max }),
    )
    await Promise.all(Array.from({ length: NUM_REQUESTS }, (_, i) => admit(leases[i % 4]!, 1)))
    expect(admitted.length).toBeLessThanOrEqual(max)
    expect(admitted.length).toBeGreaterThanOrEqual(0.95 * max)
    const numFirst = admitted.length
    await Promise.all(
      admitted.slice(0, 50).map(({ lease, ticket }) => lease.settle(ticket, 1, exchange)),
    )
    await Promise.all(Array.from({ length: NUM_REQUESTS }, (_, i) => admit(leases[i % 4]!, 1)))
    const numRunning = admitted.length - 50
    expect(numRunning).toBeLessThanOrEqual(max)
    expect(numRunning).toBeGreaterThanOrEqual(0.95 * max)
    expect(numFirst).toBeLessThanOrEqual(max)
  })

  it('ask once for many requests while a lease lasts', async ({ expect }) => {
    const { leases, admitted, calls, admit } = isolates(1, ofProject({ requestsPerMinute: 6000 }))
    for (let i = 0; i < 100; i++) await admit(leases[0]!, 10)
    expect(admitted).toHaveLength(100)
    expect(calls.count).toBe(1)
  })

  it('never ask where nothing is limited', async ({ expect }) => {
    const { leases, admitted, calls, admit } = isolates(1, ofProject({}))
    for (let i = 0; i < 100; i++) await admit(leases[0]!, 10)
    expect(admitted).toHaveLength(100)
    expect(calls.count).toBe(0)
  })

  it('give back what a request reserved and did not use', async ({ expect }) => {
    const { leases, admitted, refused, admit, exchange } = isolates(
      2,
      ofProject({ tokensPerMinute: 1000 }),
    )
    await admit(leases[0]!, 900)
    await admit(leases[1]!, 900)
    expect([admitted.length, refused.length]).toEqual([1, 1])
    await leases[0]!.settle(admitted[0]!.ticket, 20, exchange)
    await admit(leases[1]!, 900)
    expect(admitted).toHaveLength(2)
  })

  it('hold a key to its own limit beside its project', async ({ expect }) => {
    const limits = { project: { requestsPerMinute: 100 }, key: { requestsPerMinute: 3 } }
    const { leases, admitted, refused, admit } = isolates(2, limits)
    for (let i = 0; i < 10; i++) await admit(leases[i % 2]!, 1)
    expect(admitted).toHaveLength(3)
    expect(refused[0]).toMatchObject({ owner: 'key', max: 3 })
  })

  it('hold to a monthly budget, which no minute gives back', async ({ expect }) => {
    const { leases, refused, admitted, admit, exchange } = isolates(
      1,
      ofProject({ tokensPerMonth: 100 }),
    )
    await admit(leases[0]!, 60)
    await leases[0]!.settle(admitted[0]!.ticket, 90, exchange)
    await admit(leases[0]!, 20)
    expect(refused[0]).toMatchObject({ limit: 'tokensPerMonth', max: 100 })
    expect(refused[0]!.used).toBeGreaterThanOrEqual(90)
  })

  it('take a failed call for no admission, and go on with the next', async ({ expect }) => {
    const limits = ofProject({ requestsPerMinute: 10 })
    const { leases, admitted, admit } = isolates(1, limits)
    const broken = () => Promise.reject(new Error('no object'))
    await expect(leases[0]!.admit(1, limits, broken)).rejects.toThrow('no object')
    await admit(leases[0]!, 1)
    expect(admitted).toHaveLength(1)
  })
})
