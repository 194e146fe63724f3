import { RunnerFault } from '../runner-fault.ts'
import { kvBytesPerToken, KvTensors, type KvBlock } from '../kv-cache/kv-tensors.ts'
import { PrefixCache } from '../kv-cache/prefix-cache.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { EngineRequest, PrefillGroup, Sequence } from '../scheduler/request.ts'
import type { DecodingOutput } from './decoding.ts'
import type { Executor } from './executor.ts'
import type { PromptPiece } from './prompt-echo.ts'

export type EngineOptions = {
  readonly maxNumSeqs: number
  readonly maxWaiting: number
  readonly maxContext: number
  /** Memory for prompts' KV kept for later requests; 0 keeps none. */
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
}

/** A prompt being computed in the staging row, a chunk at a time. */
type Prefill = {
  readonly request: EngineRequest
  readonly group: PrefillGroup
  readonly chunks: readonly (readonly [number, number])[]
  /** Chunks in the staging row; null until the prefix cache has been asked. */
  numDone: number | null
  numCachedTokens: number
}

/**
 * The step loop: while anything is admitted, each turn runs one decode step over all running rows
 * and one chunk of the oldest prompt. Running rows are always rows 0..n−1: the last row moves into
 * the place of one that leaves. A prompt is computed in a staging row and copied into a row an arm,
 * so any number of arms cost one prefill. Computed chunks are kept in the prefix cache; chunk
 * boundaries are fixed, so a chunk from there has the very bits that computing it would give.
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
  }
  readonly options: EngineOptions
  readonly prefixCache: PrefixCache<KvBlock>
  readonly #executor: Executor
  readonly #rows: KvTensors
  readonly #staging: KvTensors
  readonly #waiting: EngineRequest[] = []
  /** Sequence of each decode row. */
  readonly #running: Sequence[] = []
  /** Groups of the admitted request whose prompts are still to be computed. */
  #prefills: Prefill[] = []
  /** Rows promised to sequences whose prompt is not computed yet. */
  #numReserved = 0
  #isLooping = false
  #loop: Promise<void> = Promise.resolve()

  constructor(executor: Executor, options: EngineOptions) {
    this.#executor = executor
    this.options = options
    this.prefixCache = new PrefixCache(options.prefixCacheBytes)
    this.#rows = new KvTensors(executor.config, options.maxNumSeqs, options.maxContext)
    this.#staging = new KvTensors(executor.config, 1, options.maxContext)
  }

  get load(): { readonly running: number; readonly waiting: number } {
    return { running: this.#running.length + this.#numReserved, waiting: this.#waiting.length }
  }

  /** @throws {RunnerFault} over_capacity where the queue is full */
  checkCapacity(): void {
    if (this.#waiting.length >= this.options.maxWaiting) {
      throw new RunnerFault('over_capacity', `${this.#waiting.length} requests are waiting`)
    }
  }

  /** Takes a request in; its events follow, ending with `done` or a request-wide `error`. */
  submit(request: EngineRequest): void {
    this.#waiting.push(request)
    if (this.#isLooping) return
    this.#isLooping = true
    this.#loop = this.#run()
  }

  /** Ends a request whose caller has gone; its rows are free before the next step. */
  abort(request: EngineRequest): void {
    request.aborted = true
  }

  /** Aborts everything and resolves when no step runs. */
  async close(): Promise<void> {
    while (this.#isLooping) {
      for (const request of this.#requests()) request.aborted = true
      await this.#loop
    }
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0 || this.#running.length > 0 || this.#prefills.length > 0) {
      try {
        this.#dropAborted()
        this.#admit()
        if (this.#running.length > 0) await this.#decodeStep()
        if (this.#prefills.length > 0) await this.#prefillStep()
      } catch (error) {
        // A bug, not a request's fault; still, every admitted request gets a final message.
        console.error(error)
        for (const request of this.#requests()) this.#failRequest(request, error)
      }
    }
    // In the same turn as the check above, so that no request slips between them.
    this.#isLooping = false
  }

  /** Reserves rows for waiting requests, in order of arrival. */
  #admit(): void {
    while (this.#waiting.length > 0) {
      const request = this.#waiting[0]!
      if (
        this.#running.length + this.#numReserved + request.numUnfinished >
        this.options.maxNumSeqs
      ) {
        return
      }
      this.#waiting.shift()
      this.#numReserved += request.numUnfinished
      const promptLen = request.promptIds.length - 1
      for (const group of request.groups) {
        const chunks = prefillChunks(promptLen)
        this.#prefills.push({ request, group, chunks, numDone: null, numCachedTokens: 0 })
      }
    }
  }

  async #prefillStep(): Promise<void> {
    const prefill = this.#prefills[0]!
    const { request, group } = prefill
    const { slot, rotateFrom, echo } = group
    if (prefill.numDone === null) {
      prefill.numDone = echo?.needsLogits ? 0 : this.#restorePrefix(prefill)
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
        await this.#executor.prefill(this.#staging, 0, ids, start, slot, rotateFrom, read)
        this.counters.prefillTokens += ids.length
        prefill.numDone += 1
        this.#keepChunk(prefill, chunk, prefill.numDone)
      }
    } catch (error) {
      this.#failRequest(request, error)
      return
    }
    if (prefill.numDone < prefill.chunks.length || request.aborted) return
    this.#prefills.shift()
    request.numPrefills += 1
    const promptLen = request.promptIds.length - 1
    for (const sequence of group.sequences) {
      this.#numReserved -= 1
      sequence.numCachedTokens = prefill.numCachedTokens
      if (sequence.decoding.maxOffsets === 0) {
        this.#emit(sequence, { kind: 'finish', reason: 'length', completionTokens: 0 })
        continue
      }
      this.#rows.copyRow(this.#running.length, this.#staging, 0, promptLen)
      sequence.numComputedTokens = promptLen
      this.#running.push(sequence)
    }
  }

  /** Gives a piece of the prompt back to every arm that it was computed for. */
  #emitPrompt({ request, group }: Prefill, { text, tokens }: PromptPiece): void {
    for (const { arm } of group.sequences) {
      request.emit({ event: 'prompt', arm, text, tokens: [...tokens] })
    }
  }

  /** Puts the longest kept prefix into the staging row. @returns its chunks */
  #restorePrefix(prefill: Prefill): number {
    const blocks = this.prefixCache.lookup(prefill.group.prefixKeys)
    for (const block of blocks) {
      this.#staging.writeBlock(0, prefill.numCachedTokens, block)
      prefill.numCachedTokens += block.numTokens
    }
    this.counters.cachedTokens += prefill.numCachedTokens
    return blocks.length
  }

  /** Keeps the chunk just computed, the `numDone`th. */
  #keepChunk({ group }: Prefill, [start, end]: readonly [number, number], numDone: number): void {
    if (group.prefixKeys.length < numDone) return
    const numTokens = end - start
    this.prefixCache.insert(
      group.prefixKeys.slice(0, numDone),
      numTokens * kvBytesPerToken(this.#executor.config),
      () => this.#staging.readBlock(0, start, numTokens),
    )
  }

  async #decodeStep(): Promise<void> {
    const batch = [...this.#running]
    const promptEnd = (sequence: Sequence): number => sequence.request.promptIds.length - 1
    const positions = batch.map((sequence) => promptEnd(sequence) + sequence.decoding.next.offset)
    let outputs: DecodingOutput[][]
    try {
      outputs = await this.#executor.decode(
        this.#rows,
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
      )
    } catch (error) {
      for (const request of new Set(batch.map((sequence) => sequence.request))) {
        this.#failRequest(request, error)
      }
      return
    }
    this.counters.decodeSteps += 1
    this.counters.decodeTokens += batch.length
    const finished: number[] = []
    const failed = new Map<EngineRequest, RunnerFault>()
    for (const [row, sequence] of batch.entries()) {
      sequence.numComputedTokens = positions[row]! + 1
      for (const output of outputs[row]!) {
        if (output.kind === 'fault') {
          failed.set(sequence.request, output.fault)
          continue
        }
        this.#emit(sequence, output)
        if (output.kind === 'finish') finished.push(row)
      }
    }
    // From the last row down, so that the row moved into a gap is never one that also leaves.
    for (const row of finished.reverse()) this.#removeRow(row)
    for (const [request, fault] of failed) this.#failRequest(request, fault)
  }

  #emit(sequence: Sequence, output: Exclude<DecodingOutput, { kind: 'fault' }>): void {
    const { request, arm } = sequence
    const now = this.options.now()
    sequence.firstTokenAtMs ??= now
    switch (output.kind) {
      case 'token':
        request.emit({
          event: 'token',
          arm,
          text: output.text,
          ids: [...output.ids],
          ...(output.logprobs ? { logprobs: [...output.logprobs] } : {}),
        })
        return
      case 'labels':
        request.emit({ event: 'labels', arm, labels: [...output.labels] })
        return
      case 'finish':
        request.emit({
          event: 'end',
          arm,
          finish_reason: output.reason,
          usage: {
            prompt_tokens: request.promptIds.length,
            completion_tokens: output.completionTokens,
            cached_tokens: sequence.numCachedTokens,
          },
          ...(output.stopToken ? { stop_token: output.stopToken } : {}),
          applied: sequence.describeApplied(),
          first_token_ms: sequence.firstTokenAtMs - request.admittedAtMs,
          total_ms: now - request.admittedAtMs,
        })
        request.numUnfinished -= 1
        if (request.numUnfinished === 0) {
          this.counters.finished += 1
          request.emit({ event: 'done', num_prefills: request.numPrefills })
          request.release()
        }
    }
  }

  /** Takes a row out of the batch; the last row moves into its place. */
  #removeRow(row: number): void {
    const last = this.#running.length - 1
    const moved = this.#running[last]!
    if (row !== last) {
      this.#rows.copyRow(row, this.#rows, last, moved.numComputedTokens)
      this.#running[row] = moved
    }
    this.#running.pop()
  }

  #dropAborted(): void {
    for (const request of this.#requests()) {
      if (!request.aborted) continue
      this.counters.aborted += 1
      this.#drop(request)
    }
  }

  #requests(): ReadonlySet<EngineRequest> {
    return new Set([
      ...this.#waiting,
      ...this.#prefills.map((prefill) => prefill.request),
      ...this.#running.map((sequence) => sequence.request),
    ])
  }

  #failRequest(request: EngineRequest, error: unknown): void {
    this.counters.failed += 1
    request.emit({ event: 'error', arm: null, error: RunnerFault.from(error).toWire() })
    this.#drop(request)
  }

  /** Removes every trace of a request that will not finish. */
  #drop(request: EngineRequest): void {
    const waiting = this.#waiting.indexOf(request)
    if (waiting >= 0) this.#waiting.splice(waiting, 1)
    for (const prefill of this.#prefills) {
      if (prefill.request === request) this.#numReserved -= prefill.group.sequences.length
    }
    this.#prefills = this.#prefills.filter((prefill) => prefill.request !== request)
    for (let row = this.#running.length - 1; row >= 0; row--) {
      if (this.#running[row]!.request === request) this.#removeRow(row)
    }
    request.release()
  }
}
