import type { ServiceTier } from '../../src/protocol/runner.ts'
import { prefillChunks } from './chunks.ts'
import type { EngineRequest, Prefill, Sequence } from './request.ts'
import { TenantTurns } from './tenant-turns.ts'

/** Lower ranks go first. Within a tier tenants take turns, and a tenant's requests go in order of arrival. */
const TIER_RANK: Readonly<Record<ServiceTier, number>> = { priority: 0, default: 1, flex: 2 }
/** Fraction of the queue that `flex` requests may fill. The rest is kept for callers who wait. */
const FLEX_QUEUE_SHARE = 0.5
/** Fraction of the queue that one tenant may fill. The rest is kept for other tenants. */
const TENANT_QUEUE_SHARE = 0.8
/** Cost of a generated token in prompt tokens: with 16 rows 4 ms of a step, against 0.6 ms of a chunk. */
const GENERATED_TOKEN_COST = 6

/** What its caller does to rows' KV, in order, so that the rows match the scheduler's assignment. */
export type RowAction =
  | { readonly kind: 'save' | 'load'; readonly sequence: Sequence; readonly row: number }
  | {
      readonly kind: 'move'
      readonly sequence: Sequence
      readonly from: number
      readonly to: number
    }

export type Departure = {
  readonly request: EngineRequest
  readonly reason: 'aborted' | 'deadline'
}

/** Something that waits for rows: a request that has not begun, or a preempted row or prompt. */
type Candidate =
  | { readonly kind: 'row'; readonly request: EngineRequest; readonly sequence: Sequence }
  | { readonly kind: 'prefill'; readonly request: EngineRequest; readonly prefill: Prefill }
  | { readonly kind: 'request'; readonly request: EngineRequest }

/**
 * Decides which requests wait, which prompt is computed next and which sequence has which row of the
 * batch. It uses no tensors and no clock.
 *
 * - Running rows are always rows 0..n−1: when a row ends, the last row takes its place.
 * - A request gets rows for all its arms at once. Requests are served in order of tier, then of the
 *   tenant that has been served least ({@link TenantTurns}), then of arrival; while the first in line
 *   waits for rows, the others wait too.
 * - A request of another tier may preempt rows of tier `flex`, the newest first. A tenant that has fewer
 *   rows than its even share may preempt rows of tenants that have more, of its own tier or a later one.
 *   At most `maxNumSeqs` rows are preempted at a time.
 */
export class Scheduler {
  readonly maxNumSeqs: number
  readonly maxWaiting: number
  readonly counters = { preempted: 0, resumed: 0 }
  readonly #turns = new TenantTurns()
  /** Without an order, but for `#running`, which is in order of rows. */
  readonly #waiting: EngineRequest[] = []
  readonly #prefills: Prefill[] = []
  readonly #running: Sequence[] = []
  readonly #parkedRows: Sequence[] = []
  readonly #parkedPrefills: Prefill[] = []
  readonly #arrivals = new WeakMap<EngineRequest, number>()
  #numArrivals = 0

  constructor({ maxNumSeqs, maxWaiting }: { maxNumSeqs: number; maxWaiting: number }) {
    this.maxNumSeqs = maxNumSeqs
    this.maxWaiting = maxWaiting
  }

  /** Sequence of each decode row. */
  get running(): readonly Sequence[] {
    return this.#running
  }

  /** The next to get rows first. */
  get waiting(): readonly EngineRequest[] {
    return this.#waiting.toSorted((a, b) => this.#compare(a, b))
  }

  get numWaiting(): number {
    return this.#waiting.length
  }

  /** Prompts that have rows promised to them, the next to be computed first. */
  get prefills(): readonly Prefill[] {
    return this.#prefills.toSorted((a, b) => this.#compare(a.request, b.request))
  }

  /** Preempted rows, and rows that were promised to preempted prompts. */
  get numParked(): number {
    return this.#parkedRows.length + numRowsOf(this.#parkedPrefills)
  }

  /** Rows promised to prompts that are being computed. */
  get numReserved(): number {
    return numRowsOf(this.#prefills)
  }

  /** Requests with a row, or with rows promised to their prompt. */
  get numRequestsRunning(): number {
    return new Set([...this.#running, ...this.#prefills].map(({ request }) => request)).size
  }

  get numFree(): number {
    return this.maxNumSeqs - this.#running.length - this.numReserved
  }

  get hasWork(): boolean {
    return this.requests().size > 0
  }

  /** Every request that has not ended. */
  requests(): ReadonlySet<EngineRequest> {
    return new Set([
      ...this.#waiting,
      ...[...this.#prefills, ...this.#parkedPrefills, ...this.#running, ...this.#parkedRows].map(
        ({ request }) => request,
      ),
    ])
  }

  /**
   * Whether the queue takes another request of a tenant and tier.
   * @param tenant undefined for a request that names none, which only the whole queue bounds
   */
  hasRoom(tier: ServiceTier, tenant?: string): boolean {
    const isFull = (numWaiting: number, share: number): boolean =>
      numWaiting >= Math.ceil(this.maxWaiting * share)
    if (isFull(this.#waiting.length, tier === 'flex' ? FLEX_QUEUE_SHARE : 1)) return false
    if (tenant === undefined) return true
    const numOwn = this.#waiting.filter((request) => request.tenant === tenant).length
    return !isFull(numOwn, TENANT_QUEUE_SHARE)
  }

  submit(request: EngineRequest): void {
    this.#arrivals.set(request, ++this.#numArrivals)
    const active = this.#tenants()
    if (!active.has(request.tenant)) this.#turns.enter(request.tenant, active)
    this.#waiting.push(request)
  }

  /** Counts a prompt's tokens, without those of the prefix cache, as served to its tenant. */
  chargePrompt({ tenant }: EngineRequest, numTokens: number): void {
    this.#turns.charge(tenant, numTokens)
  }

  /** Counts a decode step as served to the tenants of the running rows. */
  chargeStep(): void {
    for (const { request } of this.#running) {
      this.#turns.charge(request.tenant, GENERATED_TOKEN_COST)
    }
  }

  /** Requests that are aborted or past their deadline; the caller drops each of them. */
  departures(nowMs: number): Departure[] {
    const departures: Departure[] = []
    for (const request of this.requests()) {
      if (request.aborted) departures.push({ request, reason: 'aborted' })
      else if (nowMs >= request.deadlineAtMs) departures.push({ request, reason: 'deadline' })
    }
    return departures
  }

  /** Removes every trace of a request that will not finish. */
  drop(request: EngineRequest): RowAction[] {
    const isOther = (entry: { readonly request: EngineRequest }) => entry.request !== request
    keep(this.#waiting, (entry) => entry !== request)
    keep(this.#prefills, isOther)
    keep(this.#parkedPrefills, isOther)
    keep(this.#parkedRows, isOther)
    const actions: RowAction[] = []
    for (let row = this.#running.length - 1; row >= 0; row--) {
      if (!isOther(this.#running[row]!)) this.#vacate(row, actions)
    }
    return actions
  }

  /** Gives rows to the first in line, again and again until the next one does not fit. */
  fill(): RowAction[] {
    const actions: RowAction[] = []
    for (;;) {
      const next = this.#firstInLine()
      if (!next) return actions
      const numMissing = numRowsWanted(next) - this.numFree
      if (numMissing > 0 && !this.#makeRoom(next, numMissing, actions)) return actions
      this.#seat(next, actions)
    }
  }

  /** Gives a computed prompt's sequences their rows, apart from sequences that generate nothing. */
  finishPrefill(prefill: Prefill): { readonly sequence: Sequence; readonly row: number }[] {
    keep(this.#prefills, (entry) => entry !== prefill)
    return prefill.group.sequences
      .filter(({ decoding }) => decoding.maxOffsets > 0)
      .map((sequence) => ({ sequence, row: this.#running.push(sequence) - 1 }))
  }

  /** Frees the row of a sequence that is done. */
  finish(sequence: Sequence): RowAction[] {
    const actions: RowAction[] = []
    this.#vacate(this.#running.indexOf(sequence), actions)
    return actions
  }

  #firstInLine(): Candidate | null {
    const sequence = this.#first(this.#parkedRows, ({ request }) => request)
    const prefill = this.#first(this.#parkedPrefills, ({ request }) => request)
    const request = this.#first(this.#waiting, (entry) => entry)
    const candidates: Candidate[] = []
    if (sequence) candidates.push({ kind: 'row', request: sequence.request, sequence })
    if (prefill) candidates.push({ kind: 'prefill', request: prefill.request, prefill })
    if (request) candidates.push({ kind: 'request', request })
    // Of one request rows resume before prompts.
    return this.#first(candidates, (candidate) => candidate.request)
  }

  #seat(next: Candidate, actions: RowAction[]): void {
    switch (next.kind) {
      case 'row':
        keep(this.#parkedRows, (entry) => entry !== next.sequence)
        actions.push({
          kind: 'load',
          sequence: next.sequence,
          row: this.#running.push(next.sequence) - 1,
        })
        this.counters.resumed += 1
        return
      case 'prefill':
        keep(this.#parkedPrefills, (entry) => entry !== next.prefill)
        this.#prefills.push(next.prefill)
        this.counters.resumed += numRowsIn(next.prefill)
        return
      case 'request': {
        const { request } = next
        keep(this.#waiting, (entry) => entry !== request)
        for (const group of request.groups) {
          const chunks = prefillChunks(request.promptIds.length - 1)
          this.#prefills.push({ request, group, chunks, numDone: null, numCachedTokens: 0 })
        }
      }
    }
  }

  /**
   * Preempts rows until `numMissing` more are free.
   * @returns false, with nothing preempted, where fewer may be
   */
  #makeRoom(next: Candidate, numMissing: number, actions: RowAction[]): boolean {
    const chosen: (Sequence | Prefill)[] = []
    let numFreed = 0
    for (const victim of this.#victims(next)) {
      if (numFreed >= numMissing) break
      chosen.push(victim)
      numFreed += numRowsIn(victim)
    }
    if (numFreed < numMissing || this.numParked + numFreed > this.maxNumSeqs) return false
    for (const victim of chosen) {
      if ('group' in victim) this.#parkPrefill(victim)
      else this.#parkRow(victim, actions)
    }
    this.counters.preempted += numFreed
    return true
  }

  /** Rows and prompts that may be preempted for a candidate, the first to go first. */
  #victims(next: Candidate): (Sequence | Prefill)[] {
    const { tier, tenant } = next.request
    const held = new Map<string, number>()
    const seated = [...this.#prefills, ...this.#running]
    for (const entry of seated) {
      const { tenant: holder } = entry.request
      held.set(holder, (held.get(holder) ?? 0) + numRowsIn(entry))
    }
    const share = Math.max(1, Math.floor(this.maxNumSeqs / this.#tenants().size))
    const isOwed = (held.get(tenant) ?? 0) + numRowsWanted(next) <= share
    // The last in line goes first. The sort is stable, so of one request prompts go before rows.
    return seated
      .toSorted((a, b) => this.#compare(b.request, a.request))
      .filter((entry) => {
        const { request } = entry
        if (request.tier === 'flex' && tier !== 'flex') return true
        const numLeft = held.get(request.tenant)! - numRowsIn(entry)
        if (!isOwed || numLeft < share || TIER_RANK[request.tier] < TIER_RANK[tier]) return false
        held.set(request.tenant, numLeft)
        return true
      })
  }

  #parkPrefill(prefill: Prefill): void {
    keep(this.#prefills, (entry) => entry !== prefill)
    this.#parkedPrefills.push(prefill)
  }

  #parkRow(sequence: Sequence, actions: RowAction[]): void {
    const row = this.#running.indexOf(sequence)
    actions.push({ kind: 'save', sequence, row })
    this.#vacate(row, actions)
    this.#parkedRows.push(sequence)
  }

  /** Takes a row out of the batch; the last row moves into its place. */
  #vacate(row: number, actions: RowAction[]): void {
    const last = this.#running.length - 1
    const moved = this.#running[last]!
    if (row !== last) {
      actions.push({ kind: 'move', sequence: moved, from: last, to: row })
      this.#running[row] = moved
    }
    this.#running.pop()
  }

  /** The entry that goes first; of equals the one that stands first. */
  #first<T>(list: readonly T[], requestOf: (entry: T) => EngineRequest): T | null {
    let first: T | null = null
    for (const entry of list) {
      if (first === null || this.#compare(requestOf(entry), requestOf(first)) < 0) first = entry
    }
    return first
  }

  /** Tenants of all requests that have not ended. */
  #tenants(): ReadonlySet<string> {
    return new Set([...this.requests()].map(({ tenant }) => tenant))
  }

  /** Negative where `a` goes first. */
  #compare(a: EngineRequest, b: EngineRequest): number {
    return (
      TIER_RANK[a.tier] - TIER_RANK[b.tier] ||
      this.#turns.get(a.tenant) - this.#turns.get(b.tenant) ||
      this.#arrivals.get(a)! - this.#arrivals.get(b)!
    )
  }
}

/** The row of a sequence, or the rows promised to a prompt. */
const numRowsIn = (entry: Sequence | Prefill): number =>
  'group' in entry ? entry.group.sequences.length : 1

const numRowsOf = (prefills: readonly Prefill[]): number =>
  prefills.reduce((sum, prefill) => sum + numRowsIn(prefill), 0)

function numRowsWanted(candidate: Candidate): number {
  if (candidate.kind === 'row') return 1
  if (candidate.kind === 'prefill') return numRowsIn(candidate.prefill)
  return candidate.request.numUnfinished
}

/** Removes, in place, the entries that do not pass. */
function keep<T>(list: T[], isKept: (entry: T) => boolean): void {
  let length = 0
  for (const entry of list) if (isKept(entry)) list[length++] = entry
  list.length = length
}
