export type Sized = { readonly sizeBytes: number }

export type PrefixCacheCounters = {
  lookups: number
  /** Lookups that found at least one block. */
  hits: number
  inserted: number
  evicted: number
}

/**
 * Keeps blocks of computed prompts. A block's key stands for every token up to the block's end, so the
 * blocks of a prompt form a chain, which is looked up from its start. The least recently used block is
 * evicted first. A use counts for a whole chain, from its end to its start, so that a block is never
 * kept without the ones before it.
 */
export class PrefixCache<Block extends Sized> {
  readonly maxBytes: number
  readonly counters: PrefixCacheCounters = { lookups: 0, hits: 0, inserted: 0, evicted: 0 }
  /** The least recently used first. */
  readonly #blocks = new Map<string, Block>()
  #sizeBytes = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  get numBlocks(): number {
    return this.#blocks.size
  }

  /** Keys, the least recently used first. */
  keys(): readonly string[] {
    return [...this.#blocks.keys()]
  }

  /**
   * @param keys of a prompt's blocks, in order
   * @returns the blocks of its longest kept prefix, in order
   */
  lookup(keys: readonly string[]): readonly Block[] {
    const found: Block[] = []
    for (const key of keys) {
      const block = this.#blocks.get(key)
      if (!block) break
      found.push(block)
    }
    this.#touch(keys.slice(0, found.length))
    if (keys.length > 0) this.counters.lookups += 1
    if (found.length > 0) this.counters.hits += 1
    return found
  }

  /**
   * Keeps a block if the blocks before it are kept and all of them fit the budget together.
   * @param keys of the block's chain, its own last
   * @param make makes the block, of exactly `sizeBytes`; only called if it will be kept
   * @returns whether the block is kept
   */
  insert(keys: readonly string[], sizeBytes: number, make: () => Block): boolean {
    const key = keys[keys.length - 1]
    if (key === undefined) throw new RangeError('a chain without blocks')
    const chain = keys.slice(0, -1)
    let chainBytes = 0
    for (const earlier of chain) {
      const block = this.#blocks.get(earlier)
      if (!block) return false
      chainBytes += block.sizeBytes
    }
    if (this.#blocks.has(key)) {
      this.#touch(keys)
      return true
    }
    if (chainBytes + sizeBytes > this.maxBytes) return false
    // The chain becomes the newest, so none of its blocks is evicted while there are others.
    this.#touch(chain)
    for (const [oldest, block] of this.#blocks) {
      if (this.#sizeBytes + sizeBytes <= this.maxBytes) break
      this.#blocks.delete(oldest)
      this.#sizeBytes -= block.sizeBytes
      this.counters.evicted += 1
    }
    this.#blocks.set(key, make())
    this.#sizeBytes += sizeBytes
    this.counters.inserted += 1
    this.#touch(keys)
    return true
  }

  /** Makes a chain the most recently used, and its first block the most recent of all. */
  #touch(keys: readonly string[]): void {
    for (const key of keys.toReversed()) {
      const block = this.#blocks.get(key)!
      this.#blocks.delete(key)
      this.#blocks.set(key, block)
    }
  }
}
