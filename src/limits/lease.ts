import type {
  Allowance,
  LeaseCall,
  LeaseReply,
  Settlement,
  Standing,
  Standings,
} from './lease-call.ts'
import { limitsRequests, type CallerLimits, type Refusal } from '../protocol/limits.ts'

/** How long an isolate uses what it was given. Within it, changed limits bite everywhere. */
const FRESH_MS = 5_000
/** A lease under which requests run tells its object oftener than this that they do. */
export const HEARTBEAT_MS = 5_000
/** A request that said nothing for this long has lost its context, and runs no more. */
const LOST_AFTER_MS = 3 * HEARTBEAT_MS
/** A call that takes longer may never end, because the request that made it has gone. */
const STALE_CALL_MS = 3_000
/** Settlements that wait for an object that cannot be reached. Older ones are given up. */
const MAX_WAITING_SETTLEMENTS = 10_000

const NOTHING: Allowance = { requests: 0, tokens: 0 }

export type Exchange = (call: LeaseCall) => Promise<LeaseReply>

/** A request under a lease. */
export type Ticket = { readonly tokens: number; readonly admittedAtMs: number; seenAtMs: number }
type Waiter = { readonly tokens: number; outcome: Ticket | Refusal | null }
type WaitingSettlement = {
  readonly seq: number
  readonly tokens: number
  readonly admittedAtMs: number
  isAcknowledged: boolean
}

/**
 * What one isolate may do for one key without asking: some requests and tokens that the object of
 * the project's limits gave it in advance. It makes one call to the object at a time; requests that
 * come meanwhile share the next one. Each call is made by one of the requests that wait for it, so
 * that none depends on the context of a request that has gone.
 */
export class Lease {
  readonly #id = crypto.randomUUID()
  readonly #keyId: string
  #limits: CallerLimits
  #unused: Allowance = NOTHING
  #held = 0
  #idle = 0
  #freshUntilMs = 0
  readonly #running = new Set<Ticket>()
  readonly #waiting: Waiter[] = []
  #settlements: WaitingSettlement[] = []
  #numSettled = 0
  #standings: Standings = {}
  #standingsAtMs = 0
  #call: { readonly end: Promise<void>; readonly startedAtMs: number } | null = null
  #lastCallAtMs = 0

  constructor(keyId: string, limits: CallerLimits) {
    this.#keyId = keyId
    this.#limits = limits
  }

  /** Nothing is lost with it. */
  get isIdle(): boolean {
    const isUsed = this.#running.size + this.#waiting.length + this.#settlements.length > 0
    return !isUsed && Date.now() >= this.#freshUntilMs
  }

  /**
   * Admits a request that reserves tokens, without asking if the lease has enough.
   * @throws what `exchange` throws
   */
  async admit(tokens: number, limits: CallerLimits, exchange: Exchange): Promise<Ticket | Refusal> {
    this.#takeLimits(limits)
    const ticket = this.#take(tokens)
    if (ticket !== null) return ticket
    const waiter: Waiter = { tokens, outcome: null }
    this.#waiting.push(waiter)
    try {
      await this.#callUntil(() => waiter.outcome !== null, exchange)
    } finally {
      const index = this.#waiting.indexOf(waiter)
      if (index >= 0) this.#waiting.splice(index, 1)
    }
    return waiter.outcome!
  }

  /**
   * Ends a request. The promise ends when the object knows what it used.
   * @param tokens what it used; its reservation is corrected by it
   */
  async settle(ticket: Ticket, tokens: number, exchange: Exchange): Promise<void> {
    this.#running.delete(ticket)
    if (!limitsRequests(this.#limits)) return
    this.#numSettled += 1
    const settlement: WaitingSettlement = {
      seq: this.#numSettled,
      tokens: tokens - ticket.tokens,
      admittedAtMs: ticket.admittedAtMs,
      isAcknowledged: false,
    }
    this.#settlements.push(settlement)
    this.#settlements = this.#settlements.slice(-MAX_WAITING_SETTLEMENTS)
    await this.#callUntil(() => settlement.isAcknowledged, exchange)
  }

  /** Tells the object now and then that a request still runs. */
  async keep(ticket: Ticket, exchange: Exchange): Promise<void> {
    ticket.seenAtMs = Date.now()
    if (ticket.seenAtMs - this.#lastCallAtMs >= HEARTBEAT_MS / 2) await this.#callOnce(exchange)
  }

  /** Where the limits stand, with what this isolate has used since it last asked. */
  standings(): Standings {
    const now = (standing: Standing | undefined, unused: number): Standing | undefined =>
      standing && {
        limit: standing.limit,
        remaining: Math.min(standing.limit, standing.remaining + unused),
        resetMs: Math.max(0, standing.resetMs - (Date.now() - this.#standingsAtMs)),
      }
    const requests = now(this.#standings.requests, this.#unused.requests)
    const tokens = now(this.#standings.tokens, this.#unused.tokens)
    return {
      ...(requests === undefined ? {} : { requests }),
      ...(tokens === undefined ? {} : { tokens }),
    }
  }

  #takeLimits(limits: CallerLimits): void {
    if (limits === this.#limits) return
    const isChanged = JSON.stringify(limits) !== JSON.stringify(this.#limits)
    this.#limits = limits
    if (!isChanged) return
    this.#freshUntilMs = 0
    this.#standings = {}
  }

  #take(tokens: number): Ticket | null {
    if (limitsRequests(this.#limits)) {
      if (Date.now() >= this.#freshUntilMs) return null
      const { project, key } = this.#limits
      const has = (name: keyof typeof project) => (project[name] ?? key[name]) !== undefined
      const requests = has('requestsPerMinute') ? 1 : 0
      const reserved = has('tokensPerMinute') || has('tokensPerMonth') ? tokens : 0
      if (this.#unused.requests < requests || this.#unused.tokens < reserved) return null
      if (has('concurrentRequests') && this.#running.size >= this.#held) return null
      this.#unused = {
        requests: this.#unused.requests - requests,
        tokens: this.#unused.tokens - reserved,
      }
    }
    return this.#start(tokens)
  }

  #start(tokens: number): Ticket {
    const nowMs = Date.now()
    const ticket = { tokens, admittedAtMs: nowMs, seenAtMs: nowMs }
    this.#running.add(ticket)
    return ticket
  }

  async #callUntil(isDone: () => boolean, exchange: Exchange): Promise<void> {
    while (!isDone()) await this.#callOnce(exchange)
  }

  /** Waits for the call that is under way; makes one where none is, or where it never ends. */
  async #callOnce(exchange: Exchange): Promise<void> {
    const current = this.#call
    if (current === null) return this.#exchange(exchange)
    const leftMs = current.startedAtMs + STALE_CALL_MS - Date.now()
    const timer: { id?: ReturnType<typeof setTimeout> } = {}
    const isStale = new Promise<boolean>((resolve) => {
      timer.id = setTimeout(() => {
        resolve(true)
      }, leftMs)
    })
    const isLost = await Promise.race([current.end.then(() => false), isStale])
    if (timer.id !== undefined) clearTimeout(timer.id)
    if (isLost && this.#call === current) this.#call = null
  }

  async #exchange(exchange: Exchange): Promise<void> {
    const nowMs = Date.now()
    const report = this.#report(nowMs)
    const waiting = this.#waiting.splice(0)
    const settlements = [...this.#settlements]
    const asked = exchange({
      ...report,
      settled: settlements.map(({ seq, tokens, admittedAtMs }): Settlement => ({
        seq,
        tokens,
        admittedAgoMs: nowMs - admittedAtMs,
      })),
      wants: waiting.map(({ tokens }) => ({ tokens })),
    })
    const end = asked.then(
      () => undefined,
      () => undefined,
    )
    const call = { end, startedAtMs: nowMs }
    this.#call = call
    this.#lastCallAtMs = nowMs
    try {
      const reply = await asked
      this.#freshUntilMs = nowMs + FRESH_MS
      this.#unused = add(this.#unused, reply.granted)
      this.#held += reply.places
      this.#idle = reply.idle
      this.#standings = reply.standings
      this.#standingsAtMs = nowMs
      waiting.forEach((waiter, i) => {
        waiter.outcome = reply.outcomes[i] ?? this.#start(waiter.tokens)
      })
      for (const settlement of settlements) settlement.isAcknowledged = true
      this.#settlements = this.#settlements.filter(({ isAcknowledged }) => !isAcknowledged)
    } catch (error) {
      this.#waiting.unshift(...waiting)
      throw error
    } finally {
      if (this.#call === call) this.#call = null
    }
  }

  /** What the lease has, once it has put aside what it must give back. */
  #report(nowMs: number): Omit<LeaseCall, 'settled' | 'wants'> {
    for (const ticket of this.#running) {
      if (nowMs - ticket.seenAtMs > LOST_AFTER_MS) this.#running.delete(ticket)
    }
    const isFresh = nowMs < this.#freshUntilMs
    const returned = isFresh ? NOTHING : this.#unused
    if (!isFresh) this.#unused = NOTHING
    const running = this.#running.size
    this.#held = running + (isFresh ? Math.max(0, Math.min(this.#held - running, this.#idle)) : 0)
    return {
      lease: this.#id,
      keyId: this.#keyId,
      limits: this.#limits,
      unused: this.#unused,
      returned,
      running,
      held: this.#held,
    }
  }
}

const add = (a: Allowance, b: Allowance): Allowance => ({
  requests: a.requests + b.requests,
  tokens: a.tokens + b.tokens,
})
