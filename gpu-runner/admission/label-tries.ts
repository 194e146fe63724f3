import { buildLabelTrie, type LabelTrie } from '../../adapters/objective/label-trie.ts'
import { RunnerFault } from '../runner-fault.ts'
import type { ChatTokenizer } from '../tokenizer/index.ts'

/** Label sets kept. A task has one, so this many classification tasks find theirs ready. */
const MAX_CACHED_TRIES = 256

/** Keeps the tries of label sets, so that each set is tokenised once. */
export class LabelTries {
  readonly #tokenizer: ChatTokenizer
  readonly #tries = new Map<string, LabelTrie>()

  constructor(tokenizer: ChatTokenizer) {
    this.#tokenizer = tokenizer
  }

  /** @throws {RunnerFault} a label without tokens, or two with the same tokens */
  get(labels: readonly string[]): LabelTrie {
    const key = JSON.stringify(labels)
    const known = this.#tries.get(key)
    if (known) return known
    const trie = buildLabelTrie(
      labels.map((label) => this.#tokenizer.encodeLabel(label)),
      this.#tokenizer.endOfTurnId,
    )
    if (!trie.ok) {
      const names = trie.error.labels.map((label) => JSON.stringify(labels[label])).join(' and ')
      throw new RunnerFault(
        'invalid_request',
        trie.error.reason === 'empty_label'
          ? `label ${names} has no tokens`
          : `labels ${names} have the same tokens`,
        { param: 'labels' },
      )
    }
    if (this.#tries.size >= MAX_CACHED_TRIES) this.#tries.delete(this.#tries.keys().next().value!)
    this.#tries.set(key, trie.value)
    return trie.value
  }
}
