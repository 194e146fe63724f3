/** A row's tokens: which ones the prompt has, and how often each was generated. */
export class TokenHistory {
  readonly #promptIds: ReadonlySet<number>
  readonly #counts = new Map<number, number>()

  constructor(promptIds: Iterable<number>) {
    this.#promptIds = new Set(promptIds)
  }

  /** How often each token was generated. */
  get generated(): ReadonlyMap<number, number> {
    return this.#counts
  }

  push(id: number): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1)
  }

  /** Each distinct token of the prompt and the answer, once. */
  *seen(): Generator<number> {
    yield* this.#promptIds
    for (const id of this.#counts.keys()) if (!this.#promptIds.has(id)) yield id
  }
}
