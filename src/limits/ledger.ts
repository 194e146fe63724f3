/** The counts of one project and of its keys, and what its isolates were given of them. */
import type { Allowance, LeaseCall, LeaseReply, Standing, Standings } from './lease-call.ts'
import type { CallerLimits, LimitName, LimitOwner, Limits, Refusal } from '../protocol/limits.ts'
import { MinuteWindow, type WindowEntries } from './minute-window.ts'

/** At most this share of a limit is with isolates that have not used it yet. */
const MAX_ADVANCE = 0.05
/** An isolate that is silent for longer is dead: its requests run no more. */
export const DEAD_AFTER_MS = 15_000
/** From then on no window holds what an isolate was given. */
const FORGOTTEN_AFTER_MS = 60_000
/** Nobody knows when a request ends. */
const CONCURRENT_RETRY_MS = 1_000

export const PROJECT = 'project'

/** Counts of the project, or of one key. */
type Subject = {
  readonly requestsPerMinute: MinuteWindow
  readonly tokensPerMinute: MinuteWindow
  tokensPerMonth: MonthCount
}
export type MonthCount = { readonly month: string; readonly used: number }
export type SubjectState = {
  readonly requests: WindowEntries
  readonly tokens: WindowEntries
  readonly month: MonthCount
}

type LeaseRecord = {
  readonly keyId: string
  unused: Allowance
  running: number
  held: number
  grantedAtMs: number
  seenAtMs: number
  lastSeq: number
}

/** A limit that a call is held to, with the counts of its owner. */
type Bound = {
  readonly owner: LimitOwner
  readonly subject: Subject
  readonly limits: Limits
  /** The leases that draw on it. */
  readonly leases: readonly LeaseRecord[]
}

/** Counts in memory. It has no clock; its object stores the subjects that a call changes. */
export class Ledger {
  readonly #subjects = new Map<string, Subject>()
  readonly #leases = new Map<string, LeaseRecord>()

  restore(id: string, { requests, tokens, month }: SubjectState): void {
    this.#subjects.set(id, {
      requestsPerMinute: new MinuteWindow(requests),
      tokensPerMinute: new MinuteWindow(tokens),
      tokensPerMonth: month,
    })
  }

  /** Null for one that has used nothing yet. */
  state(id: string): SubjectState | null {
    const subject = this.#subjects.get(id)
    if (subject === undefined) return null
    return {
      requests: subject.requestsPerMinute.entries(),
      tokens: subject.tokensPerMinute.entries(),
      month: subject.tokensPerMonth,
    }
  }

  /** Reads a lease's report, admits what waits, and tops its allowance up. */
  exchange(call: LeaseCall, nowMs: number): LeaseReply {
    const lease = this.#leaseOf(call, nowMs)
    const bounds = this.#boundsOf(call, nowMs)
    this.#settle(bounds, lease, call, nowMs)
    const outcomes = call.wants.map(({ tokens }) => {
      const refusal = this.#refuse(bounds, tokens, nowMs)
      if (refusal === null) {
        charge(bounds, { requests: 1, tokens }, nowMs)
        lease.held += 1
        lease.running += 1
      }
      return refusal
    })
    const granted = this.#grantAdvance(bounds, lease, nowMs)
    const idle = idlePlaces(bounds, lease, nowMs)
    lease.held += Math.max(0, idle - (lease.held - lease.running))
    return {
      outcomes,
      granted,
      places: lease.held - call.held,
      idle,
      standings: standingsOf(bounds, nowMs),
    }
  }

  #leaseOf(call: LeaseCall, nowMs: number): LeaseRecord {
    for (const [id, lease] of this.#leases) {
      if (nowMs - lease.seenAtMs > FORGOTTEN_AFTER_MS) this.#forget(id, lease)
    }
    const known = this.#leases.get(call.lease)
    const lease: LeaseRecord = known ?? {
      keyId: call.keyId,
      unused: call.unused,
      running: 0,
      held: 0,
      grantedAtMs: nowMs,
      seenAtMs: nowMs,
      lastSeq: 0,
    }
    this.#leases.set(call.lease, lease)
    lease.unused = call.unused
    lease.running = call.running
    lease.held = call.held
    lease.seenAtMs = nowMs
    return lease
  }

  /** A minute's windows have forgotten what it was given; a month gets it back. */
  #forget(id: string, { keyId, unused }: LeaseRecord): void {
    this.#leases.delete(id)
    for (const owner of [PROJECT, keyId]) {
      const subject = this.#subjects.get(owner)
      if (subject === undefined) continue
      const { month, used } = subject.tokensPerMonth
      subject.tokensPerMonth = { month, used: Math.max(0, used - unused.tokens) }
    }
  }

  #boundsOf({ keyId, limits }: LeaseCall, nowMs: number): readonly Bound[] {
    const leases = [...this.#leases.values()]
    return [
      { owner: 'project', subject: this.#subject(PROJECT, nowMs), limits: limits.project, leases },
      {
        owner: 'key',
        subject: this.#subject(keyId, nowMs),
        limits: limits.key,
        leases: leases.filter((lease) => lease.keyId === keyId),
      },
    ]
  }

  #subject(id: string, nowMs: number): Subject {
    const month = monthOf(nowMs)
    const subject = this.#subjects.get(id) ?? {
      requestsPerMinute: new MinuteWindow(),
      tokensPerMinute: new MinuteWindow(),
      tokensPerMonth: { month, used: 0 },
    }
    if (subject.tokensPerMonth.month !== month) subject.tokensPerMonth = { month, used: 0 }
    this.#subjects.set(id, subject)
    return subject
  }

  #settle(
    bounds: readonly Bound[],
    lease: LeaseRecord,
    { returned, settled }: LeaseCall,
    nowMs: number,
  ): void {
    charge(bounds, { requests: -returned.requests, tokens: -returned.tokens }, nowMs, lease)
    for (const { seq, tokens, admittedAgoMs } of settled) {
      if (seq <= lease.lastSeq) continue
      lease.lastSeq = seq
      charge(bounds, { requests: 0, tokens }, nowMs, { grantedAtMs: nowMs - admittedAgoMs })
    }
  }

  #refuse(bounds: readonly Bound[], tokens: number, nowMs: number): Refusal | null {
    for (const { owner, subject, limits, leases } of bounds) {
      for (const name of ['tokensPerMonth', 'concurrentRequests'] as const) {
        const max = limits[name]
        if (max === undefined) continue
        const isMonth = name === 'tokensPerMonth'
        const used = isMonth ? subject.tokensPerMonth.used : heldBy(leases, nowMs)
        const requested = isMonth ? tokens : 1
        const retryAfterMs = isMonth ? endOfMonth(nowMs) - nowMs : CONCURRENT_RETRY_MS
        if (used + requested > max) {
          return { limit: name, owner, max, used, requested, retryAfterMs }
        }
      }
      for (const name of ['requestsPerMinute', 'tokensPerMinute'] as const) {
        const max = limits[name]
        if (max === undefined) continue
        const requested = name === 'requestsPerMinute' ? 1 : tokens
        const retryAfterMs = subject[name].waitMs(requested, max, nowMs)
        if (retryAfterMs !== 0) {
          const used = subject[name].used(nowMs)
          return { limit: name, owner, max, used, requested, retryAfterMs }
        }
      }
    }
    return null
  }

  /** Gives what the next requests may use without asking: so little that the limit stays exact. */
  #grantAdvance(bounds: readonly Bound[], lease: LeaseRecord, nowMs: number): Allowance {
    const advance = (unit: keyof Allowance, names: readonly LimitName[]): number => {
      const shares = bounds.flatMap(({ subject, limits, leases }) =>
        names.flatMap((name) => {
          const max = limits[name]
          if (max === undefined) return []
          const others = leases.reduce(
            (sum, other) => (other === lease ? sum : sum + other.unused[unit]),
            0,
          )
          const used =
            name === 'tokensPerMonth'
              ? subject.tokensPerMonth.used
              : subject[name as 'tokensPerMinute'].used(nowMs)
          const share = Math.ceil((Math.floor(max * MAX_ADVANCE) - others) / 2)
          return [Math.min(share - lease.unused[unit], max - used)]
        }),
      )
      return shares.length === 0 ? 0 : Math.max(0, Math.min(...shares))
    }
    const granted = {
      requests: advance('requests', ['requestsPerMinute']),
      tokens: advance('tokens', ['tokensPerMinute', 'tokensPerMonth']),
    }
    charge(bounds, granted, nowMs)
    lease.unused = {
      requests: lease.unused.requests + granted.requests,
      tokens: lease.unused.tokens + granted.tokens,
    }
    lease.grantedAtMs = nowMs
    return granted
  }
}

/** Counts an amount as used; a negative one is taken back from when it was counted. */
function charge(
  bounds: readonly Bound[],
  { requests, tokens }: Allowance,
  nowMs: number,
  { grantedAtMs }: { readonly grantedAtMs: number } = { grantedAtMs: nowMs },
): void {
  for (const { subject, limits } of bounds) {
    const count = (name: 'requestsPerMinute' | 'tokensPerMinute', amount: number) => {
      if (limits[name] === undefined || amount === 0) return
      if (amount > 0) subject[name].charge(amount, nowMs)
      else subject[name].refund(-amount, grantedAtMs, nowMs)
    }
    count('requestsPerMinute', requests)
    count('tokensPerMinute', tokens)
    if (limits.tokensPerMonth !== undefined) {
      const { month, used } = subject.tokensPerMonth
      subject.tokensPerMonth = { month, used: Math.max(0, used + tokens) }
    }
  }
}

const heldBy = (leases: readonly LeaseRecord[], nowMs: number): number =>
  leases.reduce((sum, { held, seenAtMs }) => {
    return nowMs - seenAtMs > DEAD_AFTER_MS ? sum : sum + held
  }, 0)

/** Places for requests that a lease may keep although none runs in them. */
function idlePlaces(bounds: readonly Bound[], lease: LeaseRecord, nowMs: number): number {
  const own = lease.held - lease.running
  const shares = bounds.flatMap(({ limits, leases }) => {
    const max = limits.concurrentRequests
    if (max === undefined) return []
    const others = leases.reduce(
      (sum, other) => (other === lease ? sum : sum + other.held - other.running),
      0,
    )
    const share = Math.ceil((Math.floor(max * MAX_ADVANCE) - others) / 2)
    return [Math.min(share, own + max - heldBy(leases, nowMs))]
  })
  return shares.length === 0 ? 0 : Math.max(0, Math.min(...shares))
}

function standingsOf(bounds: readonly Bound[], nowMs: number): Standings {
  const tightest = (name: 'requestsPerMinute' | 'tokensPerMinute'): Standing | undefined =>
    bounds
      .flatMap(({ subject, limits }) => {
        const limit = limits[name]
        if (limit === undefined) return []
        const remaining = Math.max(0, limit - subject[name].used(nowMs))
        return [{ limit, remaining, resetMs: subject[name].clearMs(nowMs) }]
      })
      .sort((a, b) => a.remaining - b.remaining)[0]
  const requests = tightest('requestsPerMinute')
  const tokens = tightest('tokensPerMinute')
  return {
    ...(requests === undefined ? {} : { requests }),
    ...(tokens === undefined ? {} : { tokens }),
  }
}

export const monthOf = (ms: number): string => new Date(ms).toISOString().slice(0, 'YYYY-MM'.length)

function endOfMonth(ms: number): number {
  const date = new Date(ms)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)
}

/** Whether a call draws on counts that outlive the object. */
export const countsUse = ({ project, key }: CallerLimits): boolean =>
  [project, key].some(
    ({ requestsPerMinute, tokensPerMinute, tokensPerMonth }) =>
      (requestsPerMinute ?? tokensPerMinute ?? tokensPerMonth) !== undefined,
  )
