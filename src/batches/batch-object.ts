import { DurableObject } from 'cloudflare:workers'
import { upsertBatch } from '../db/batches.ts'
import { insertUsageRows } from '../db/usage.ts'
import type { Bindings } from '../env.ts'
import type { Batch, BatchTimes } from '../protocol/openai/batches.ts'
import type { LineAnswer, LineAnswerer } from './answer-line.ts'
import type { BatchCalls, CancelOutcome } from './batch-calls.ts'
import {
  hasEnded,
  INITIAL_STATE,
  unixSeconds,
  viewBatch,
  type BatchSpec,
  type BatchState,
} from './batch-spec.ts'
import { BatchStore, type WaitingLine } from './batch-store.ts'
import { readInput } from './read-input.ts'
import { writeFiles, writeLine } from './write-files.ts'

/** As many as one runner has rows. */
const LINES_AT_ONCE = 16
/** How long one alarm starts lines, and how many: the platform bounds an invocation's calls. */
const SLICE_MS = 60_000
const MAX_LINES_PER_SLICE = 400
/** After so many failed tries a line has failed. A line that only finds no room waits on. */
const MAX_TRIES = 4
/** How often D1's copy follows a running batch. */
const PROJECT_EVERY_MS = 2_000
const USAGE_ROWS_AT_ONCE = 90
const BACKOFF_BASE_MS = 250
const BACKOFF_MAX_MS = 5_000

/**
 * One batch. This object holds the truth about it; the row in D1 is a copy. Alarms drive it, so that it
 * goes on by itself after a crash. A line's result, its usage and the counts are written together,
 * so a crash only repeats lines that had not ended.
 */
export class BatchObject extends DurableObject<Bindings> implements BatchCalls {
  readonly #store: BatchStore
  #spec: BatchSpec | null = null
  #state: BatchState = INITIAL_STATE
  /** Slices in a row in which no line could be answered, or that failed. */
  #numFaults = 0
  #projectedAtMs = 0
  #isAwake = false

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new BatchStore(ctx.storage)
    const loaded = this.#store.load()
    if (loaded === null) return
    this.#spec = loaded.spec
    this.#state = loaded.state
  }

  /** Starts a batch. A second call changes nothing. */
  async create(spec: BatchSpec): Promise<Batch> {
    if (this.#spec === null) {
      this.#store.create(spec, INITIAL_STATE)
      this.#spec = spec
      await this.ctx.storage.setAlarm(Date.now())
    }
    await this.#project(this.#spec)
    return viewBatch(this.#spec, this.#state)
  }

  /** @returns null if this object has no batch */
  async read(): Promise<Batch | null> {
    if (this.#spec === null) return null
    // The platform gives an alarm up that was cut off too often.
    const isAsleep = !this.#isAwake && !hasEnded(this.#state)
    if (isAsleep && (await this.ctx.storage.getAlarm()) === null) {
      await this.ctx.storage.setAlarm(Date.now())
    }
    return viewBatch(this.#spec, this.#state)
  }

  /** Lines that run are answered to their end; no other is begun. */
  async cancel(): Promise<CancelOutcome | null> {
    if (this.#spec === null) return null
    const { status } = this.#state
    if (status === 'validating' || status === 'in_progress') {
      this.#change({ status: 'cancelling', ending: 'cancelled' }, 'cancelling_at')
      await this.ctx.storage.setAlarm(Date.now())
      await this.#project(this.#spec)
    } else if (status !== 'cancelling') {
      return { isTooLate: true, batch: viewBatch(this.#spec, this.#state) }
    }
    return { isTooLate: false, batch: viewBatch(this.#spec, this.#state) }
  }

  override async alarm(): Promise<void> {
    if (this.#spec === null) return
    this.#isAwake = true
    let delayMs: number | null
    try {
      delayMs = await this.#runSlice(this.#spec)
    } catch (error) {
      // The platform gives an alarm up after six tries that throw, so this one never throws.
      console.error(
        JSON.stringify({ event: 'batch_alarm_failed', batch: this.#spec.id, error: String(error) }),
      )
      delayMs = this.#backoffMs()
    } finally {
      this.#isAwake = false
    }
    if (delayMs !== null) await this.ctx.storage.setAlarm(Date.now() + delayMs)
  }

  /** @returns ms until the next alarm; null if nothing is left to do */
  async #runSlice(spec: BatchSpec): Promise<number | null> {
    let delayMs = 0
    if (this.#state.status === 'validating') await this.#validate(spec)
    else if (this.#state.status === 'in_progress') delayMs = await this.#runLines(spec)
    await this.#countUsage()
    const { status } = this.#state
    if (status === 'cancelling' || status === 'finalizing') await this.#finish(spec)
    await this.#project(spec)
    if (!hasEnded(this.#state)) return delayMs
    // All that the lines held is in the files now.
    this.#store.forgetLines()
    return null
  }

  async #validate(spec: BatchSpec): Promise<void> {
    const { errors, numRequests, model } = await readInput(this.env, spec, this.#store)
    if (!this.#is('validating')) {
      // Cancelled meanwhile: every line counts as not executed.
      this.#change({ numTotal: errors.length === 0 ? numRequests : 0, model })
      if (errors.length > 0) this.#store.forgetLines()
    } else if (errors.length > 0) this.#change({ status: 'failed', errors }, 'failed_at')
    else this.#change({ status: 'in_progress', numTotal: numRequests, model }, 'in_progress_at')
  }

  /** Answers lines for a while. @returns ms until the next slice */
  async #runLines(spec: BatchSpec): Promise<number> {
    const untilMs = Math.min(Date.now() + SLICE_MS, spec.expiresAtMs)
    const slice = { last: 0, numStarted: 0, numAnswered: 0, isStopped: false }
    const runLane = async () => {
      while (!slice.isStopped && this.#is('in_progress') && Date.now() < untilMs) {
        const line = this.#store.nextWaiting(slice.last)
        if (line === null || slice.numStarted >= MAX_LINES_PER_SLICE) return
        slice.last = line.number
        slice.numStarted += 1
        const isAnswered = await this.#runLine(spec, line)
        if (isAnswered) slice.numAnswered += 1
        // The others end, then all wait a while.
        else slice.isStopped = true
        if (Date.now() - this.#projectedAtMs >= PROJECT_EVERY_MS) await this.#project(spec)
      }
    }
    await Promise.all(Array.from({ length: LINES_AT_ONCE }, runLane))
    if (slice.numAnswered > 0) this.#numFaults = 0
    if (this.#is('in_progress')) {
      if (this.#store.nextWaiting(0) === null) {
        this.#change({ status: 'finalizing' }, 'finalizing_at')
      } else if (Date.now() >= spec.expiresAtMs) {
        this.#change({ status: 'finalizing', ending: 'expired' }, 'finalizing_at')
      }
    }
    return slice.isStopped && this.#is('in_progress') ? this.#backoffMs() : 0
  }

  /** @returns whether the line now has its result */
  async #runLine(spec: BatchSpec, line: WaitingLine): Promise<boolean> {
    const { projectId, keyId, limits, endpoint } = spec
    const { requestId, body } = line
    const answer = await this.#answer({ projectId, keyId, limits, endpoint, requestId, body })
    if (answer.kind === 'no_room') return false
    if (answer.kind === 'fault' && line.numFaults + 1 < MAX_TRIES) {
      this.#store.addFault(line.number)
      return false
    }
    const usage = answer.kind === 'answered' ? answer.usage : null
    const isFailed = answer.status !== 200
    const isTimeout = answer.status === 504
    const state = this.#stateAfter({
      numCompleted: this.#state.numCompleted + (isFailed ? 0 : 1),
      numFailed: this.#state.numFailed + (isFailed ? 1 : 0),
      promptTokens: this.#state.promptTokens + (usage?.promptTokens ?? 0),
      cachedTokens: this.#state.cachedTokens + (usage?.cachedTokens ?? 0),
      completionTokens: this.#state.completionTokens + (usage?.completionTokens ?? 0),
    })
    const text = isTimeout
      ? writeLine(line, null, { code: 'request_timeout', message: 'The model took too long.' })
      : writeLine(line, answer)
    this.#store.finishLine(line.number, { text, isFailed, usage }, state)
    this.#state = state
    return true
  }

  async #answer(call: Parameters<LineAnswerer['answer']>[0]): Promise<LineAnswer> {
    // The types of `exports` would need this folder to import the Worker's entry.
    const { LineAnswerer: answerer } = this.ctx.exports as unknown as {
      readonly LineAnswerer: Service<LineAnswerer>
    }
    return answerer.answer(call)
  }

  /** Writes the usage of answered lines to D1, each once however often this is repeated. */
  async #countUsage(): Promise<void> {
    for (;;) {
      const entries = this.#store.usage(USAGE_ROWS_AT_ONCE)
      if (entries.length === 0) return
      await insertUsageRows(
        this.env.DB,
        entries.map(({ row }) => row),
      )
      this.#store.forgetUsage(entries.map(({ line }) => line))
    }
  }

  async #finish(spec: BatchSpec): Promise<void> {
    const { ending } = this.#state
    const files = await writeFiles(this.env, spec, this.#state, this.#store)
    this.#change({ ...files, status: ending }, `${ending}_at`)
  }

  // A method, because the compiler does not see that #state may change during an await.
  #is(status: BatchState['status']): boolean {
    return this.#state.status === status
  }

  #stateAfter(change: Partial<BatchState>): BatchState {
    return { ...this.#state, ...change, revision: this.#state.revision + 1 }
  }

  /** @param time the one that is now */
  #change(change: Partial<BatchState>, time?: keyof BatchTimes): void {
    const now = time === undefined ? {} : { [time]: unixSeconds(Date.now()) }
    const state = this.#stateAfter({ ...change, times: { ...this.#state.times, ...now } })
    this.#store.save(state)
    this.#state = state
  }

  /** Copies the batch to D1. @throws {Error} of D1 */
  async #project(spec: BatchSpec): Promise<void> {
    const { revision, projectedRevision } = this.#state
    if (revision === projectedRevision) return
    this.#projectedAtMs = Date.now()
    const { projectId, createdAtMs } = spec
    const object = viewBatch(spec, this.#state)
    await upsertBatch(this.env.DB, { projectId, object, revision, createdAtMs })
    const state = { ...this.#state, projectedRevision: revision }
    this.#store.save(state)
    this.#state = state
  }

  #backoffMs(): number {
    this.#numFaults += 1
    return Math.min(BACKOFF_BASE_MS * 2 ** Math.min(this.#numFaults - 1, 10), BACKOFF_MAX_MS)
  }
}
