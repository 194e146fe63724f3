import pLimit from 'p-limit'
import type { Executor } from '../engine/executor.ts'
import { IDENTITY_SLOT } from '../adapters/slot-table.ts'
import { KvTensors } from '../kv-cache/kv-tensors.ts'
import { RunnerFault } from '../runner-fault.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { TokenisedDataset } from './dataset-store.ts'

/** Rows of one group: enough to fill the kernels, few enough not to hold up live rows long. */
const MAX_GROUP_ROWS = 32

/** Examples computed together, each in a row of its own. */
export type Group = { readonly examples: readonly number[]; readonly kv: KvTensors }

/**
 * Prompts' keys and values as the base model computes them, for the calls of jobs. Under scope
 * `generated` every candidate reads the same ones, whether it is scored or differentiated.
 */
export class PromptCache {
  readonly #executor: Executor
  readonly #maxBytes: number
  /** Computed prompts by dataset and examples, in order of last use. */
  readonly #groups = new Map<string, Group>()
  readonly #lock = pLimit(1)

  constructor(executor: Executor, maxBytes: number) {
    this.#executor = executor
    this.#maxBytes = maxBytes
  }

  /** One call of a job at a time: they share the cached rows. */
  takeTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#lock(work)
  }

  /** The examples in groups, in order. */
  *membersOf(examples: readonly number[]): Generator<readonly number[]> {
    for (let start = 0; start < examples.length; start += MAX_GROUP_ROWS) {
      yield examples.slice(start, start + MAX_GROUP_ROWS)
    }
  }

  /** The group with its prompts computed by the base model, from the cache or now. */
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

  /** A group that is not kept, with nothing computed yet. */
  create(dataset: TokenisedDataset, examples: readonly number[]): Group {
    const longest = Math.max(...examples.map((index) => dataset.prompts[index]!.length))
    const capacity = longest + dataset.maxFeedLen
    return { examples, kv: new KvTensors(this.#executor.config, examples.length, capacity) }
  }

  /**
   * Computes each prompt but for its last token. What a prompt begins with as an earlier one of the
   * group does, a task's instructions above all, is copied from there.
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

/** The earlier row that a prompt, but for its last token, agrees with for longest. */
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
