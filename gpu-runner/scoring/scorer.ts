import { LabelScorer, type LabelTrie } from '../../adapters/objective/label-trie.ts'
import type { Rotation } from '../../adapters/rotation/rotation.ts'
import type { ScoreHeader } from '../../src/protocol/runner-scoring.ts'
import { IDENTITY_SLOT, type SlotTable } from '../adapters/slot-table.ts'
import type { Executor } from '../engine/executor.ts'
import { logNormaliser } from '../sampling/log-probs.ts'
import { decodeCandidates, selectExamples } from './candidates.ts'
import type { TokenisedDataset } from './dataset-store.ts'
import { throwIfAborted, type Group, type PromptCache } from './prompt-cache.ts'

/**
 * Scores candidates on examples. Under scope `generated` the prompts' KV is the base model's, so it is
 * computed once and kept. A candidate then costs one decode step for each node of the trie that is fed.
 */
export class Scorer {
  readonly #executor: Executor
  readonly #slots: SlotTable
  readonly #prompts: PromptCache
  #numCalls = 0

  constructor(executor: Executor, slots: SlotTable, prompts: PromptCache) {
    this.#executor = executor
    this.#slots = slots
    this.#prompts = prompts
  }

  /**
   * @param values angles [candidates, layers, heads, pairs], then log scales where the header has them
   * @returns log P(label) [candidates][examples][labels]; for targets [candidates][examples][1],
   *   summed over the target's tokens
   * @throws {RunnerFault} values or examples that do not fit the dataset or model; aborted
   */
  score(
    dataset: TokenisedDataset,
    header: ScoreHeader,
    values: Float32Array,
    isAborted: () => boolean,
  ): Promise<number[][][]> {
    const rotations = decodeCandidates(this.#executor.config, header, values)
    const examples = selectExamples(dataset, header.examples)
    return this.#prompts.takeTurn(() =>
      this.#scoreAll(dataset, examples, rotations, header.scope, isAborted),
    )
  }

  async #scoreAll(
    dataset: TokenisedDataset,
    examples: readonly number[],
    rotations: readonly Rotation[],
    scope: ScoreHeader['scope'],
    isAborted: () => boolean,
  ): Promise<number[][][]> {
    const callId = ++this.#numCalls
    const results = rotations.map((): number[][] => [])
    for (const members of this.#prompts.membersOf(examples)) {
      const cached =
        scope === 'generated' ? await this.#prompts.open(dataset, members, isAborted) : null
      const group = cached ?? this.#prompts.create(dataset, members)
      try {
        for (const [index, rotation] of rotations.entries()) {
          const isBase = rotation.layers.size === 0
          const key = `score:${callId}:${index}`
          const slot = isBase ? IDENTITY_SLOT : this.#slots.acquire(key, () => rotation)
          try {
            if (scope === 'all') await this.#prompts.prefill(dataset, group, slot, isAborted)
            results[index]!.push(...(await this.#logProbs(dataset, group, slot, isAborted)))
          } finally {
            if (!isBase) this.#slots.discard(slot)
          }
        }
      } finally {
        if (!cached) await this.#executor.forget(group.kv)
      }
    }
    return results
  }

  #logProbs(
    { prompts, answers }: TokenisedDataset,
    group: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<number[][]> {
    const rows = group.examples.map((example) => prompts[example]!)
    if (answers.kind === 'labels') {
      return this.#labelLogProbs(rows, answers.trie, group, slot, isAborted)
    }
    const targets = group.examples.map((example) => answers.targets[example]!)
    return this.#targetLogProbs(rows, targets, group, slot, isAborted)
  }

  /** @returns [rows][labels] */
  async #labelLogProbs(
    rows: readonly (readonly number[])[],
    trie: LabelTrie,
    { kv }: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<number[][]> {
    const scorers = rows.map(() => new LabelScorer(trie))
    const slots = rows.map(() => slot)
    const { vocab } = this.#executor.config
    const step = async (
      node: number,
      depth: number,
      tokenOf: (prompt: readonly number[]) => number,
    ) => {
      throwIfAborted(isAborted)
      const ids = rows.map(tokenOf)
      const positions = rows.map((prompt) => prompt.length - 1 + depth)
      await this.#executor.decode(kv, 0, ids, positions, slots, (logits) => {
        for (const [row, scorer] of scorers.entries()) {
          scorer.read(node, logits.subarray(row * vocab, (row + 1) * vocab))
        }
      })
    }
    await step(0, 0, (prompt) => prompt[prompt.length - 1]!)
    for (const feed of trie.feeds) await step(feed.node, feed.depth, () => feed.token)
    return scorers.map((scorer) => scorer.result())
  }

  /**
   * Runs a decode step for each token, with all rows together, so the numbers are those of generating
   * the target. A row whose target has ended repeats its last step, which changes nothing.
   * @returns [rows][1]
   */
  async #targetLogProbs(
    rows: readonly (readonly number[])[],
    targets: readonly (readonly number[])[],
    { kv }: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<number[][]> {
    const sums = rows.map(() => 0)
    const slots = rows.map(() => slot)
    const { vocab } = this.#executor.config
    const numSteps = Math.max(...targets.map(({ length }) => length))
    for (let step = 0; step < numSteps; step++) {
      throwIfAborted(isAborted)
      const depths = targets.map(({ length }) => Math.min(step, length - 1))
      const ids = rows.map((prompt, row) =>
        depths[row] === 0 ? prompt.at(-1)! : targets[row]![depths[row]! - 1]!,
      )
      const positions = rows.map((prompt, row) => prompt.length - 1 + depths[row]!)
      await this.#executor.decode(kv, 0, ids, positions, slots, (logits) => {
        for (const [row, target] of targets.entries()) {
          const token = target[step]
          if (token === undefined) continue
          const own = logits.subarray(row * vocab, (row + 1) * vocab)
          sums[row]! += own[token]! - logNormaliser(own)
        }
      })
    }
    return sums.map((sum) => [sum])
  }
}
