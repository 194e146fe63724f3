type TrieNode = { readonly next: Map<number, TrieNode>; id: number | null }

/** Finds tokens written out in text: the leftmost first, and of those at one position the longest. */
export class TokenTrie {
  readonly #root: TrieNode = { next: new Map(), id: null }

  /** @param ids ids by the tokens' texts, which are not empty */
  constructor(ids: ReadonlyMap<string, number>) {
    for (const [text, id] of ids) {
      let node = this.#root
      for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i)
        let next = node.next.get(unit)
        if (!next) {
          next = { next: new Map(), id: null }
          node.next.set(unit, next)
        }
        node = next
      }
      node.id = id
    }
  }

  /** Cuts text at tokens. @returns stretches of plain text, and ids */
  *split(text: string): Generator<string | number> {
    let plainFrom = 0
    for (let at = 0; at < text.length;) {
      let node: TrieNode | undefined = this.#root
      let id: number | null = null
      let end = at
      for (let i = at; i < text.length; i++) {
        node = node.next.get(text.charCodeAt(i))
        if (!node) break
        if (node.id !== null) {
          id = node.id
          end = i + 1
        }
      }
      if (id === null) {
        at++
        continue
      }
      if (at > plainFrom) yield text.slice(plainFrom, at)
      yield id
      at = end
      plainFrom = end
    }
    if (plainFrom < text.length) yield text.slice(plainFrom)
  }
}
