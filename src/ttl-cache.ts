import QuickLRU from 'quick-lru'

/** A small map whose entries end after a time. The least recently used ones go when it is full. */
export class TtlCache<T> extends QuickLRU<string, T & {}> {
  /** @param maxEntries it drops no entry before it holds this many, and never holds twice as many */
  constructor(ttlMs: number, maxEntries: number) {
    super({ maxSize: maxEntries, maxAge: ttlMs })
  }
}
