import pLimit from 'p-limit'
import type { Executor } from '../engine/executor.ts'
import { IDENTITY_SLOT } from '../adapters/slot-table.ts'
import { KvTensors } from '../kv-cache/kv-tensors.ts'
import { RunnerFault } from '../runner-fault.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { TokenisedDataset } from './dataset-store.ts'

/** Rows of one group: enough to use the cores fully, few enough not to delay live rows for long. */
const MAX_GROUP_ROWS = 32

/** Examples that are computed together, each in a row of its own. */
export type Group = { readonly examples: readonly number[]; readonly kv: KvTensors }

/**
 * Keeps the base model's keys and values of jobs' prompts. Under scope `generated` every candidate reads
 * the same ones, both for scores and for gradients.
 */
export class PromptCache {
  readonly #executor: Executor
  readonly #maxBytes: number
  /** Computed prompts by dataset and examples, the least recently used first. */
  readonly #groups = new Map<string, Group>()
  readonly #lock = pLimit(1)

  constructor(executor: Executor, maxBytes: number) {
    this.#executor = executor
    this.#maxBytes = maxBytes
  }

  /** Runs one job's call at a time, since calls share the cached rows. */
  takeTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#lock(work)
  }

  /** Divides examples into groups, in order. */
  *membersOf(examples: readonly number[]): Generator<readonly number[]> {
    for (let start = 0; start < examples.length; start += MAX_GROUP_ROWS) {
      yield examples.slice(start, start + MAX_GROUP_ROWS)
    }
  }

  /** A group whose prompts the base model has computed: from the cache, or computed now and kept. */
  async open(
    dataset: TokenisedDataset,
    examples: readonly number[],
    isAborted: () => boolean,
  ): Promise<Group> {
    const key = `${dataset.digest}:${examples.join(',')}`
    let group = this.#groups.get(key)
    if (group) {
      this.#groups.delete(key)
    } else {
      group = this.create(dataset, examples)
      await this.#makeRoom(group.kv.sizeBytes)
      await this.prefill(dataset, group, IDENTITY_SLOT, isAborted)
    }
    this.#groups.set(key, group)
    return group
  }

  /** A new group that is not kept and has no prompt computed yet. */
  create(dataset: TokenisedDataset, examples: readonly number[]): Group {
    const longest = Math.max(...examples.map((index) => dataset.prompts[index]!.length))
    const capacity = longest + dataset.maxFeedLen
    return { examples, kv: new KvTensors(this.#executor.config, examples.length, capacity) }
  }

  /**
   * Computes each prompt without its last token. The beginning that a prompt shares with an earlier
   * one of the group, most often the task's instructions, is copied from there.
   */
  async prefill(
    dataset: TokenisedDataset,
    { examples, kv }: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<void> {
    const prompts = examples.map((example) => dataset.prompts[example]!)
    for (const [row, prompt] of prompts.entries()) {
      const shared = findShared(prompts, row)
      if (shared.numTokens > 0) kv.copyRow(row, kv, shared.row, shared.numTokens)
      for (const [start, end] of prefillChunks(prompt.length - 1)) {
        if (end <= shared.numTokens) continue
        throwIfAborted(isAborted)
        const from = Math.max(start, shared.numTokens)
        await this.#executor.prefill(kv, row, prompt.slice(from, end), from, slot)
      }
    }
  }

  async #makeRoom(sizeBytes: number): Promise<void> {
    let total = [...this.#groups.values()].reduce((sum, { kv }) => sum + kv.sizeBytes, sizeBytes)
    for (const [key, { kv }] of this.#groups) {
      if (total <= this.#maxBytes) return
      this.#groups.delete(key)
      await this.#executor.forget(kv)
      total -= kv.sizeBytes
    }
  }
}

/** Finds the earlier row with which a prompt, without its last token, shares the longest beginning. */
function findShared(
  prompts: readonly (readonly number[])[],
  row: number,
): { readonly row: number; readonly numTokens: number } {
  const prompt = prompts[row]!
  let best = { row: 0, numTokens: 0 }
  for (const [earlier, other] of prompts.slice(0, row).entries()) {
    const limit = Math.min(prompt.length, other.length) - 1
    let numTokens = 0
    while (numTokens < limit && prompt[numTokens] === other[numTokens]) numTokens++
    if (numTokens > best.numTokens) best = { row: earlier, numTokens }
  }
  return best
}

export function throwIfAborted(isAborted: () => boolean): void {
  if (isAborted()) throw new RunnerFault('aborted', 'the caller has gone')
}
