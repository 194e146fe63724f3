import type { ServiceTier } from '../../src/protocol/runner.ts'
import { prefillChunks } from './chunks.ts'
import type { EngineRequest, Prefill, Sequence } from './request.ts'

/** Lower ranks go first; within a tier, requests go in order of arrival. */
const TIER_RANK: Readonly<Record<ServiceTier, number>> = { priority: 0, default: 1, flex: 2 }
/** Fraction of the queue that `flex` requests may fill. The rest is kept for callers who wait. */
const FLEX_QUEUE_SHARE = 0.5

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
 * - A request gets rows for all its arms at once. Requests are served in order of tier, then of
 *   arrival; while the first in line waits for rows, the others wait too.
 * - A request of another tier may preempt rows of tier `flex`, the newest first. Preempted rows resume
 *   before any `flex` request that has not begun, so at most `maxNumSeqs` rows are preempted at a time.
 */
export class Scheduler {
  readonly maxNumSeqs: number
  readonly maxWaiting: number
  readonly counters = { preempted: 0, resumed: 0 }
  /** Every list has first what goes first, but for `#running`, which is in order of rows. */
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

  get waiting(): readonly EngineRequest[] {
    return this.#waiting
  }

  /** Prompts that have rows promised to them, the next to be computed first. */
  get prefills(): readonly Prefill[] {
    return this.#prefills
  }

  /** Preempted rows, and rows that were promised to preempted prompts. */
  get numParked(): number {
    return this.#parkedRows.length + numRowsOf(this.#parkedPrefills)
  }

  /** Rows promised to prompts that are being computed. */
  get numReserved(): number {
    return numRowsOf(this.#prefills)
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

  /** Whether the queue takes another request of a tier. */
  hasRoom(tier: ServiceTier): boolean {
    const share = tier === 'flex' ? FLEX_QUEUE_SHARE : 1
    return this.#waiting.length < Math.ceil(this.maxWaiting * share)
  }

  submit(request: EngineRequest): void {
    this.#arrivals.set(request, ++this.#numArrivals)
    this.#insert(this.#waiting, request, (entry) => entry)
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
      if (numMissing > 0 && !this.#makeRoom(next.request, numMissing, actions)) return actions
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
    const candidates: Candidate[] = []
    const [sequence, prefill, request] = [
      this.#parkedRows[0],
      this.#parkedPrefills[0],
      this.#waiting[0],
    ]
    if (sequence) candidates.push({ kind: 'row', request: sequence.request, sequence })
    if (prefill) candidates.push({ kind: 'prefill', request: prefill.request, prefill })
    if (request) candidates.push({ kind: 'request', request })
    // The sort is stable, so of one request rows resume before prompts.
    return candidates.sort((a, b) => this.#compare(a.request, b.request))[0] ?? null
  }

  #seat(next: Candidate, actions: RowAction[]): void {
    switch (next.kind) {
      case 'row':
        this.#parkedRows.shift()
        actions.push({
          kind: 'load',
          sequence: next.sequence,
          row: this.#running.push(next.sequence) - 1,
        })
        this.counters.resumed += 1
        return
      case 'prefill':
        this.#parkedPrefills.shift()
        this.#insert(this.#prefills, next.prefill, ({ request }) => request)
        this.counters.resumed += next.prefill.group.sequences.length
        return
      case 'request': {
        this.#waiting.shift()
        const { request } = next
        for (const group of request.groups) {
          const chunks = prefillChunks(request.promptIds.length - 1)
          const prefill = { request, group, chunks, numDone: null, numCachedTokens: 0 }
          this.#insert(this.#prefills, prefill, (entry) => entry.request)
        }
      }
    }
  }

  /**
   * Preempts rows of `flex` until `numMissing` more are free.
   * @returns false, with nothing preempted, where `flex` holds fewer
   */
  #makeRoom(request: EngineRequest, numMissing: number, actions: RowAction[]): boolean {
    if (request.tier === 'flex') return false
    const isFlex = (entry: { readonly request: EngineRequest }) => entry.request.tier === 'flex'
    const prefills = this.#prefills.filter(isFlex)
    const rows = this.#running.filter(isFlex)
    if (rows.length + numRowsOf(prefills) < numMissing) return false
    // Newest first. The sort is stable, so of one request prompts go before rows.
    const victims = [...prefills, ...rows].sort((a, b) => this.#compare(b.request, a.request))
    let numFreed = 0
    for (const victim of victims) {
      if (numFreed >= numMissing) break
      numFreed += 'group' in victim ? this.#parkPrefill(victim) : this.#parkRow(victim, actions)
    }
    this.counters.preempted += numFreed
    return true
  }

  #parkPrefill(prefill: Prefill): number {
    keep(this.#prefills, (entry) => entry !== prefill)
    this.#insert(this.#parkedPrefills, prefill, ({ request }) => request)
    return prefill.group.sequences.length
  }

  #parkRow(sequence: Sequence, actions: RowAction[]): number {
    const row = this.#running.indexOf(sequence)
    actions.push({ kind: 'save', sequence, row })
    this.#vacate(row, actions)
    this.#insert(this.#parkedRows, sequence, ({ request }) => request)
    return 1
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

  /** Inserts an entry behind all that go before it. */
  #insert<T>(list: T[], entry: T, requestOf: (entry: T) => EngineRequest): void {
    const at = list.findIndex((other) => this.#compare(requestOf(entry), requestOf(other)) < 0)
    list.splice(at < 0 ? list.length : at, 0, entry)
  }

  /** Negative where `a` goes first. */
  #compare(a: EngineRequest, b: EngineRequest): number {
    return TIER_RANK[a.tier] - TIER_RANK[b.tier] || this.#arrivals.get(a)! - this.#arrivals.get(b)!
  }
}

const numRowsOf = (prefills: readonly Prefill[]): number =>
  prefills.reduce((sum, { group }) => sum + group.sequences.length, 0)

function numRowsWanted(candidate: Candidate): number {
  if (candidate.kind === 'row') return 1
  if (candidate.kind === 'prefill') return candidate.prefill.group.sequences.length
  return candidate.request.numUnfinished
}

/** Removes, in place, the entries that do not pass. */
function keep<T>(list: T[], isKept: (entry: T) => boolean): void {
  let length = 0
  for (const entry of list) if (isKept(entry)) list[length++] = entry
  list.length = length
}
