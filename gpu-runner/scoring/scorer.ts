import { LabelScorer } from '../../adapters/objective/label-trie.ts'
import {
  pairsPerLayer,
  type LayerRotation,
  type Rotation,
} from '../../adapters/rotation/rotation.ts'
import type { ScoreHeader } from '../../src/protocol/runner.ts'
import { IDENTITY_SLOT, type SlotTable } from '../adapters/slot-table.ts'
import type { Executor } from '../engine/executor.ts'
import { KvTensors } from '../kv-cache/kv-tensors.ts'
import { RunnerFault } from '../runner-fault.ts'
import { prefillChunks } from '../scheduler/chunks.ts'
import type { TokenisedDataset } from './dataset-store.ts'

/** Rows of one scoring step: enough to fill the kernels, few enough not to hold up live rows long. */
const MAX_GROUP_ROWS = 32
/** Angles are radians and log scales natural logarithms; past this a candidate is a mistake. */
const MAX_ABS_VALUE = 1e3

/** Examples computed together, each in a row of its own. */
type Group = { readonly examples: readonly number[]; readonly kv: KvTensors }

/**
 * Scores candidates on examples. Under scope `generated` the prompts' KV is the base model's own, so
 * it is computed once and kept: a candidate then costs one step a trie feed.
 */
export class Scorer {
  readonly #executor: Executor
  readonly #slots: SlotTable
  readonly #maxCacheBytes: number
  /** Computed prompts by dataset and examples, in order of last use. */
  readonly #groups = new Map<string, Group>()
  #numCalls = 0
  /** One call at a time: they share the cached rows. */
  #tail: Promise<unknown> = Promise.resolve()

  constructor(executor: Executor, slots: SlotTable, maxCacheBytes: number) {
    this.#executor = executor
    this.#slots = slots
    this.#maxCacheBytes = maxCacheBytes
  }

  /**
   * @param values angles [candidates, layers, heads, pairs], then log scales where the header has them
   * @returns log P(label) [candidates][examples][labels]
   * @throws {RunnerFault} values or examples that do not fit; aborted
   */
  score(
    dataset: TokenisedDataset,
    header: ScoreHeader,
    values: Float32Array,
    isAborted: () => boolean,
  ): Promise<number[][][]> {
    const rotations = this.#decodeCandidates(header, values)
    const numExamples = dataset.prompts.length
    const examples = header.examples ?? dataset.prompts.map((_, index) => index)
    const missing = examples.find((index) => index >= numExamples)
    if (missing !== undefined) {
      throw new RunnerFault('invalid_request', `the dataset has no example ${missing}`, {
        param: 'examples',
      })
    }
    const result = this.#tail.then(() =>
      this.#scoreAll(dataset, examples, rotations, header.scope, isAborted),
    )
    this.#tail = result.catch(() => undefined)
    return result
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
    for (let start = 0; start < examples.length; start += MAX_GROUP_ROWS) {
      const members = examples.slice(start, start + MAX_GROUP_ROWS)
      const cached =
        scope === 'generated' ? await this.#openGroup(dataset, members, isAborted) : null
      const group = cached ?? this.#createGroup(dataset, members)
      try {
        for (const [index, rotation] of rotations.entries()) {
          const isBase = rotation.layers.size === 0
          const key = `score:${callId}:${index}`
          const slot = isBase ? IDENTITY_SLOT : this.#slots.acquire(key, () => rotation)
          try {
            if (scope === 'all') await this.#prefill(dataset, group, slot, isAborted)
            results[index]!.push(...(await this.#labelLogProbs(dataset, group, slot, isAborted)))
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

  /** The group with its prompts computed by the base model, from the cache or now. */
  async #openGroup(
    dataset: TokenisedDataset,
    examples: readonly number[],
    isAborted: () => boolean,
  ): Promise<Group> {
    const key = `${dataset.digest}:${examples.join(',')}`
    let group = this.#groups.get(key)
    if (group) {
      this.#groups.delete(key)
    } else {
      group = this.#createGroup(dataset, examples)
      await this.#makeRoom(group.kv.sizeBytes)
      await this.#prefill(dataset, group, IDENTITY_SLOT, isAborted)
    }
    this.#groups.set(key, group)
    return group
  }

  #createGroup(dataset: TokenisedDataset, examples: readonly number[]): Group {
    const longest = Math.max(...examples.map((index) => dataset.prompts[index]!.length))
    const capacity = longest + dataset.trie.maxFeedDepth
    return { examples, kv: new KvTensors(this.#executor.config, examples.length, capacity) }
  }

  async #makeRoom(sizeBytes: number): Promise<void> {
    let total = [...this.#groups.values()].reduce((sum, { kv }) => sum + kv.sizeBytes, sizeBytes)
    for (const [key, { kv }] of this.#groups) {
      if (total <= this.#maxCacheBytes) return
      this.#groups.delete(key)
      await this.#executor.forget(kv)
      total -= kv.sizeBytes
    }
  }

  async #prefill(
    dataset: TokenisedDataset,
    { examples, kv }: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<void> {
    for (const [row, example] of examples.entries()) {
      const prompt = dataset.prompts[example]!
      for (const [start, end] of prefillChunks(prompt.length - 1)) {
        throwIfAborted(isAborted)
        await this.#executor.prefill(kv, row, prompt.slice(start, end), start, slot)
      }
    }
  }

  /** @returns [rows][labels] */
  async #labelLogProbs(
    { prompts, trie }: TokenisedDataset,
    { examples, kv }: Group,
    slot: number,
    isAborted: () => boolean,
  ): Promise<number[][]> {
    const rows = examples.map((example) => prompts[example]!)
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

  #decodeCandidates(header: ScoreHeader, values: Float32Array): Rotation[] {
    const geometry = this.#executor.config
    const pairs = pairsPerLayer(geometry)
    const { num_candidates: numCandidates, layers, has_log_scale: hasLogScale } = header
    const outside = layers.find((layer) => layer >= geometry.numLayers)
    if (outside !== undefined || new Set(layers).size !== layers.length) {
      throw new RunnerFault('invalid_request', 'layers must be distinct layers of the model', {
        param: 'layers',
      })
    }
    const half = numCandidates * layers.length * pairs
    const expected = hasLogScale ? 2 * half : half
    if (values.length !== expected) {
      throw new RunnerFault('invalid_request', `${values.length} values; ${expected} are needed`)
    }
    if (!values.every((value) => Math.abs(value) <= MAX_ABS_VALUE)) {
      throw new RunnerFault('invalid_request', 'a candidate holds a value out of bounds')
    }
    return Array.from({ length: numCandidates }, (_, candidate) => ({
      geometry,
      layers: new Map(
        layers.map((layer, i): [number, LayerRotation] => {
          const at = (candidate * layers.length + i) * pairs
          const angles = values.subarray(at, at + pairs)
          if (!hasLogScale) return [layer, { angles }]
          return [layer, { angles, logScale: values.subarray(half + at, half + at + pairs) }]
        }),
      ),
    }))
  }
}

function throwIfAborted(isAborted: () => boolean): void {
  if (isAborted()) throw new RunnerFault('aborted', 'the caller has gone')
}
