import type { Prefill, Sequence } from '../scheduler/request.ts'
import type { RowAction } from '../scheduler/scheduler.ts'
import { KvTensors, type KvBlock, type KvShape } from './kv-tensors.ts'

/**
 * The KV of the decode rows, of the staging row in which prompts are computed, and of preempted rows and
 * prompts. Preempted KV is copied out and back, so it keeps its exact bits.
 */
export class RowStore {
  readonly rows: KvTensors
  readonly staging: KvTensors
  readonly #saved = new Map<Sequence | Prefill, KvBlock>()
  /** The prompt that the staging row holds. */
  #staged: Prefill | null = null

  constructor(shape: KvShape, numRows: number, maxContext: number) {
    this.rows = new KvTensors(shape, numRows, maxContext)
    this.staging = new KvTensors(shape, 1, maxContext)
  }

  /** Memory of the KV of preempted rows and prompts. */
  get savedBytes(): number {
    return [...this.#saved.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  }

  get numSaved(): number {
    return this.#saved.size
  }

  apply(actions: readonly RowAction[]): void {
    for (const action of actions) {
      const { sequence } = action
      const numTokens = sequence.numComputedTokens
      switch (action.kind) {
        case 'save':
          this.#saved.set(sequence, this.rows.readBlock(action.row, 0, numTokens))
          break
        case 'load':
          this.rows.writeBlock(action.row, 0, this.#take(sequence))
          break
        case 'move':
          this.rows.copyRow(action.to, this.rows, action.from, numTokens)
      }
    }
  }

  /** Puts a prompt, as far as it is computed, into the staging row, and saves the one that was there. */
  stage(prefill: Prefill): void {
    if (this.#staged === prefill) return
    const before = this.#staged
    if (before) {
      const numTokens = numComputed(before)
      if (numTokens > 0) this.#saved.set(before, this.staging.readBlock(0, 0, numTokens))
    }
    if (numComputed(prefill) > 0) this.staging.writeBlock(0, 0, this.#take(prefill))
    this.#staged = prefill
  }

  /** Copies a computed prompt into a decode row. */
  place(row: number, sequence: Sequence, numTokens: number): void {
    this.rows.copyRow(row, this.staging, 0, numTokens)
    sequence.numComputedTokens = numTokens
  }

  /** Frees the staging row of a prompt that is computed or dropped. */
  unstage(prefill: Prefill): void {
    if (this.#staged === prefill) this.#staged = null
  }

  /** Frees everything kept for requests that have ended. */
  prune(isEnded: (entry: Sequence | Prefill) => boolean): void {
    if (this.#staged && isEnded(this.#staged)) this.#staged = null
    for (const entry of this.#saved.keys()) if (isEnded(entry)) this.#saved.delete(entry)
  }

  #take(entry: Sequence | Prefill): KvBlock {
    const block = this.#saved.get(entry)
    if (!block) throw new Error('no KV was saved for this row')
    this.#saved.delete(entry)
    return block
  }
}

/** Tokens of a prompt that are computed, or restored from the prefix cache. */
const numComputed = ({ chunks, numDone }: Prefill): number =>
  numDone === null || numDone === 0 ? 0 : chunks[numDone - 1]![1]
