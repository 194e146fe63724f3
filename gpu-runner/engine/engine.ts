import type { ServiceTier } from '../../src/protocol/runner.ts'
import { RunnerFault } from '../runner-fault.ts'
import { kvBytesPerToken, type KvBlock } from '../kv-cache/kv-tensors.ts'
import { PrefixCache } from '../kv-cache/prefix-cache.ts'
import { RowStore } from '../kv-cache/row-store.ts'
import { Pace, retryAfterSeconds } from '../scheduler/backlog.ts'
import type { EngineRequest, Prefill, Sequence } from '../scheduler/request.ts'
import { Scheduler } from '../scheduler/scheduler.ts'
import { toWire, type AnswerOutput } from './answer-events.ts'
import type { DecodingOutput } from '../decoding/decoding.ts'
import type { EngineEvent, EngineListener } from './engine-events.ts'
import type { Executor } from './executor.ts'
import type { PromptPiece } from '../decoding/prompt-echo.ts'

export type EngineOptions = {
  readonly maxNumSeqs: number
  readonly maxWaiting: number
  readonly maxContext: number
  /** Chunks of prompts computed between two decode steps at most. */
  readonly prefillChunksPerStep: number
  /** Memory for prompts' KV that is kept for later requests; 0 keeps none. */
  readonly prefixCacheBytes: number
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export type EngineCounters = {
  prefillTokens: number
  /** Prompt tokens whose KV came from the prefix cache. */
  cachedTokens: number
  decodeTokens: number
  decodeSteps: number
  finished: number
  failed: number
  aborted: number
  /** Requests dropped past their deadline. */
  expired: number
}

/**
 * The step loop. While there are requests, each turn runs one decode step over all running rows and then
 * computes a bounded number of prompt chunks. The {@link Scheduler} decides which sequence has which row
 * and whose prompt is next; this class carries it out.
 *
 * A prompt is computed in a staging row and copied into one row for each arm, so any number of arms
 * costs one prefill. Computed chunks are kept in the prefix cache. Chunk boundaries are fixed, so a
 * cached chunk has the same bits as one computed again.
 */
export class Engine {
  readonly counters: EngineCounters = {
    prefillTokens: 0,
    cachedTokens: 0,
    decodeTokens: 0,
    decodeSteps: 0,
    finished: 0,
    failed: 0,
    aborted: 0,
    expired: 0,
  }
  readonly options: EngineOptions
  readonly prefixCache: PrefixCache<KvBlock>
  readonly scheduler: Scheduler
  readonly #executor: Executor
  readonly #store: RowStore
  readonly #pace = new Pace()
  readonly #listeners = new Set<EngineListener>()
  /** Time spent waiting for steps, including jobs' turns before them. */
  #inStepsMs = 0
  #isLooping = false
  #loop: Promise<void> = Promise.resolve()

  constructor(executor: Executor, options: EngineOptions) {
    this.#executor = executor
    this.options = options
    this.scheduler = new Scheduler(options)
    this.prefixCache = new PrefixCache(options.prefixCacheBytes)
    this.#store = new RowStore(executor.config, options.maxNumSeqs, options.maxContext)
  }

  get load(): { readonly running: number; readonly waiting: number; readonly parked: number } {
    const { running, numReserved, numWaiting, numParked } = this.scheduler
    return { running: running.length + numReserved, waiting: numWaiting, parked: numParked }
  }

  /** KV of preempted rows and prompts. */
  get parkedKv(): { readonly numBlocks: number; readonly sizeBytes: number } {
    return { numBlocks: this.#store.numSaved, sizeBytes: this.#store.savedBytes }
  }

  /** Tells a listener of the engine's work from now on. @returns a function that ends this */
  listen(listener: EngineListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * @throws {RunnerFault} where the queue is full for this tier or tenant, or a request has more arms than
   *   rows
   */
  checkCapacity(numArms: number, tier: ServiceTier = 'default', tenant?: string): void {
    const { maxNumSeqs } = this.options
    if (!this.scheduler.hasRoom(tier, tenant)) {
      const whose = this.scheduler.hasRoom(tier) ? 'of this tenant' : `of tier ${tier}`
      throw new RunnerFault(
        'over_capacity',
        `${this.scheduler.numWaiting} requests are waiting; none ${whose} is taken until there are fewer`,
        { retry_after_seconds: this.retryAfterSeconds() },
      )
    }
    if (numArms > maxNumSeqs) {
      throw new RunnerFault('invalid_request', `at most ${maxNumSeqs} arms`, { param: 'arms' })
    }
  }

  /** In how many seconds all current requests should be done, at the pace measured so far. */
  retryAfterSeconds(): number {
    const { waiting, running, prefills, maxNumSeqs } = this.scheduler
    const promptTokens =
      waiting.reduce((sum, { promptIds, groups }) => sum + promptIds.length * groups.length, 0) +
      prefills.reduce((sum, { chunks, numDone }) => sum + tokensLeft(chunks, numDone ?? 0), 0)
    const sequences = [
      ...running,
      ...prefills.flatMap(({ group }) => group.sequences),
      ...waiting.flatMap(({ groups }) => groups.flatMap((group) => group.sequences)),
    ]
    const rowLimits = sequences.map(({ decoding }) => decoding.maxOffsets - decoding.next.offset)
    return retryAfterSeconds(this.#pace.drainMs({ promptTokens, rowLimits }, maxNumSeqs))
  }

  /** Takes a request in. Its events follow; the last is `done`, or an `error` without an arm. */
  submit(request: EngineRequest): void {
    this.scheduler.submit(request)
    this.#tell({ kind: 'submitted', request })
    if (this.#isLooping) return
    this.#isLooping = true
    this.#executor.turns.setLive(true)
    this.#loop = this.#run()
  }

  /** Ends a request whose caller has gone; its rows are free before the next step. */
  abort(request: EngineRequest): void {
    request.aborted = true
  }

  /** Aborts everything and resolves when no step runs. */
  async close(): Promise<void> {
    while (this.#isLooping) {
      for (const request of this.scheduler.requests()) request.aborted = true
      await this.#loop
    }
  }

  async #run(): Promise<void> {
    while (this.scheduler.hasWork) {
      const startMs = this.options.now()
      const inStepsMs = this.#inStepsMs
      try {
        this.#dropDeparted()
        this.#fillRows()
        if (this.scheduler.running.length > 0) {
          await this.#decodeStep()
          // The step's time has brought requests, whose prompts may be next.
          this.#fillRows()
        }
        await this.#prefillSteps()
      } catch (error) {
        // This is a bug and no request's fault, but every request must get a final message.
        const { message, stack } = error instanceof Error ? error : new Error(String(error))
        console.error(JSON.stringify({ level: 'error', event: 'engine_fault', message, stack }))
        for (const request of this.scheduler.requests()) this.#failRequest(request, error)
      }
      const ownMs = this.options.now() - startMs - (this.#inStepsMs - inStepsMs)
      this.#executor.profile.add('scheduling', Math.max(0, ownMs))
    }
    // No `await` stands between this and the check above, so no request can be submitted in between.
    this.#isLooping = false
    this.#executor.turns.setLive(false)
  }

  async #step<T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> {
    const startMs = this.options.now()
    try {
      const result = await work()
      return { result, ms: this.options.now() - startMs }
    } finally {
      this.#inStepsMs += this.options.now() - startMs
    }
  }

  #dropDeparted(): void {
    for (const { request, reason } of this.scheduler.departures(this.options.now())) {
      if (reason === 'aborted') {
        this.counters.aborted += 1
        this.#drop(request, 'aborted')
      } else {
        this.counters.expired += 1
        const fault = new RunnerFault('deadline_exceeded', 'the deadline has passed')
        request.emit({ event: 'error', arm: null, error: fault.toWire() })
        this.#drop(request, 'expired')
      }
    }
  }

  #fillRows(): void {
    const { counters } = this.scheduler
    const { preempted, resumed } = counters
    this.#store.apply(this.scheduler.fill())
    for (const [kind, before] of [
      ['preempted', preempted],
      ['resumed', resumed],
    ] as const) {
      if (counters[kind] > before) this.#tell({ kind, numRows: counters[kind] - before })
    }
  }

  /** Computes as many chunks as one step may, and gives complete prompts to their rows. */
  async #prefillSteps(): Promise<void> {
    let numChunks = 0
    while (numChunks < this.options.prefillChunksPerStep) {
      const prefill = this.scheduler.prefills[0]
      if (!prefill) return
      if (await this.#prefillStep(prefill)) numChunks += 1
    }
  }

  /** @returns whether a chunk was computed; for a prompt wholly in the prefix cache none is */
  async #prefillStep(prefill: Prefill): Promise<boolean> {
    const { request, group } = prefill
    const { slot, rotateFrom, echo } = group
    this.#store.stage(prefill)
    if (prefill.numDone === null) {
      prefill.numDone = echo?.needsLogits ? 0 : this.#restorePrefix(prefill)
      // The whole prompt at once: two long prompts then don't take the staging row from each other.
      this.scheduler.chargePrompt(request, request.promptIds.length - prefill.numCachedTokens)
      if (echo) this.#emitPrompt(prefill, echo.begin())
    }
    const chunk = prefill.chunks[prefill.numDone]
    try {
      if (chunk) {
        const [start, end] = chunk
        const ids = request.promptIds.slice(start, end)
        const { vocab } = this.#executor.config
        const read = echo?.needsLogits
          ? (logits: Float32Array): void => {
              if (!request.aborted) this.#emitPrompt(prefill, echo.read(start, logits, vocab))
            }
          : undefined
        const { staging } = this.#store
        const { ms } = await this.#step(() =>
          this.#executor.prefill(staging, 0, ids, start, slot, rotateFrom, read),
        )
        this.counters.prefillTokens += ids.length
        this.#pace.addPrefill(ids.length, ms)
        this.#tell({ kind: 'prefill_chunk', numTokens: ids.length, ms })
        prefill.numDone += 1
        this.#keepChunk(prefill, chunk, prefill.numDone)
      }
    } catch (error) {
      this.#failRequest(request, error)
      return true
    }
    // If it was aborted, it is dropped before the next step.
    if (prefill.numDone === prefill.chunks.length && !request.aborted) this.#placeRows(prefill)
    return chunk !== undefined || request.aborted
  }

  /** Gives a computed prompt to its sequences. */
  #placeRows(prefill: Prefill): void {
    const { request, group } = prefill
    const promptLen = request.promptIds.length - 1
    request.numPrefills += 1
    for (const sequence of group.sequences) sequence.numCachedTokens = prefill.numCachedTokens
    for (const { sequence, row } of this.scheduler.finishPrefill(prefill)) {
      this.#store.place(row, sequence, promptLen)
    }
    this.#store.unstage(prefill)
    for (const sequence of group.sequences) {
      if (sequence.decoding.maxOffsets > 0) continue
      this.#emit(sequence, { kind: 'finish', reason: 'length', completionTokens: 0 })
    }
  }

  /** Sends a piece of the prompt back, as an event for each arm that it was computed for. */
  #emitPrompt({ request, group }: Prefill, { text, tokens }: PromptPiece): void {
    for (const { arm } of group.sequences) {
      request.emit({ event: 'prompt', arm, text, tokens: [...tokens] })
    }
  }

  /** Copies the longest cached prefix into the staging row. @returns how many chunks it has */
  #restorePrefix(prefill: Prefill): number {
    const blocks = this.prefixCache.lookup(prefill.group.prefixKeys)
    for (const block of blocks) {
      this.#store.staging.writeBlock(0, prefill.numCachedTokens, block)
      prefill.numCachedTokens += block.numTokens
    }
    this.counters.cachedTokens += prefill.numCachedTokens
    return blocks.length
  }

  /** Puts the chunk just computed, the `numDone`th of its prompt, into the prefix cache. */
  #keepChunk({ group }: Prefill, [start, end]: readonly [number, number], numDone: number): void {
    if (group.prefixKeys.length < numDone) return
    const numTokens = end - start
    this.prefixCache.insert(
      group.prefixKeys.slice(0, numDone),
      numTokens * kvBytesPerToken(this.#executor.config),
      () => this.#store.staging.readBlock(0, start, numTokens),
    )
  }

  async #decodeStep(): Promise<void> {
    const batch = [...this.scheduler.running]
    const promptEnd = (sequence: Sequence): number => sequence.request.promptIds.length - 1
    const positions = batch.map((sequence) => promptEnd(sequence) + sequence.decoding.next.offset)
    let outputs: DecodingOutput[][]
    try {
      const { result, ms } = await this.#step(() =>
        this.#executor.decode(
          this.#store.rows,
          0,
          batch.map(({ decoding }) => decoding.next.token),
          positions,
          batch.map(({ slot }) => slot),
          (logits) => {
            const { vocab } = this.#executor.config
            return batch.map((sequence, row) =>
              sequence.request.aborted
                ? []
                : sequence.decoding.read(logits.subarray(row * vocab, (row + 1) * vocab)),
            )
          },
        ),
      )
      outputs = result
      this.#pace.addStep(ms)
      this.#tell({ kind: 'decode_step', numRows: batch.length, ms })
    } catch (error) {
      for (const request of new Set(batch.map((sequence) => sequence.request))) {
        this.#failRequest(request, error)
      }
      return
    }
    this.scheduler.chargeStep()
    this.counters.decodeSteps += 1
    this.counters.decodeTokens += batch.length
    const finished: Sequence[] = []
    const failed = new Map<EngineRequest, RunnerFault>()
    for (const [row, sequence] of batch.entries()) {
      sequence.numComputedTokens = positions[row]! + 1
      for (const output of outputs[row]!) {
        if (output.kind === 'fault') {
          failed.set(sequence.request, output.fault)
          continue
        }
        this.#emit(sequence, output)
        if (output.kind === 'finish') finished.push(sequence)
      }
    }
    // From the last row to the first, so that the row moved into a gap is never one that finishes too.
    for (const sequence of finished.reverse()) this.#store.apply(this.scheduler.finish(sequence))
    for (const [request, fault] of failed) this.#failRequest(request, fault)
  }

  #emit(sequence: Sequence, output: AnswerOutput): void {
    const { request } = sequence
    const nowMs = this.options.now()
    if (sequence.firstTokenAtMs === null) {
      sequence.firstTokenAtMs = nowMs
      this.#tell({ kind: 'first_token', request, ms: nowMs - request.admittedAtMs })
    } else if (output.kind === 'token') {
      this.#tell({ kind: 'next_token', request, ms: nowMs - sequence.lastTokenAtMs! })
    }
    sequence.lastTokenAtMs = nowMs
    request.emit(toWire(sequence, output, nowMs))
    if (output.kind !== 'finish') return
    this.#pace.addAnswer(output.completionTokens)
    request.numUnfinished -= 1
    if (request.numUnfinished > 0) return
    this.counters.finished += 1
    request.emit({ event: 'done', num_prefills: request.numPrefills })
    this.#end(request, 'finished')
  }

  #failRequest(request: EngineRequest, error: unknown): void {
    this.counters.failed += 1
    request.emit({ event: 'error', arm: null, error: RunnerFault.from(error).toWire() })
    this.#drop(request, 'failed')
  }

  /** Removes every trace of a request that will not finish. */
  #drop(request: EngineRequest, how: 'failed' | 'aborted' | 'expired'): void {
    this.#store.apply(this.scheduler.drop(request))
    this.#store.prune((entry) => entry.request === request)
    this.#end(request, how)
  }

  #end(request: EngineRequest, how: (EngineEvent & { kind: 'ended' })['how']): void {
    request.release()
    this.#tell({ kind: 'ended', request, how, ms: this.options.now() - request.admittedAtMs })
  }

  #tell(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event)
  }
}

const tokensLeft = (chunks: Prefill['chunks'], numDone: number): number =>
  chunks.slice(numDone).reduce((sum, [start, end]) => sum + end - start, 0)
