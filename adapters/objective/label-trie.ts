/**
 * Labels as a trie of their tokens. Each node's probabilities are renormalised over its children, and
 * P(label) is their product along the label's path. A node with one child therefore has probability 1
 * and needs no logits. If a label is a prefix of another, the end-of-turn token is the child that ends
 * the shorter one.
 */
import { fail, ok, type Result } from '../result.ts'

export type TrieNode = {
  /** Token on the edge from the parent; meaningless at the root. */
  readonly token: number
  /** Number of tokens from the root. */
  readonly depth: number
  readonly children: number[]
  /** The label whose path ends here. */
  label: number | null
}

/** One token to feed after the prompt so that a branching node's logits can be read. */
export type TrieFeed = {
  readonly node: number
  readonly token: number
  /** 1 for a child of the root: it stands `depth` positions after the last prompt token. */
  readonly depth: number
  /** Whether the node has two or more children, so that its logits are read. */
  readonly branching: boolean
}

export type LabelTrie = {
  /** Node 0 is the root: the position after the last prompt token. */
  readonly nodes: readonly TrieNode[]
  /** Tokens of each label, without an end-of-turn token. */
  readonly labelTokens: readonly (readonly number[])[]
  /**
   * Tokens to feed, depth first. When a node is fed, the last token fed at each smaller depth is its
   * ancestor, so one row serves the whole trie by overwriting its later positions.
   */
  readonly feeds: readonly TrieFeed[]
  /** The most tokens that stand after the prompt at once. */
  readonly maxFeedDepth: number
}

export type LabelTrieError = {
  readonly reason: 'empty_label' | 'same_tokens'
  readonly labels: readonly number[]
}

/**
 * Builds the trie and the order in which to feed it.
 * @param labelTokens tokens of each label, [labels][tokens]
 * @param endToken the end-of-turn token, which ends a label that is a prefix of another
 * @returns an error for a label without tokens, or two labels with the same tokens
 */
export function buildLabelTrie(
  labelTokens: readonly (readonly number[])[],
  endToken: number,
): Result<LabelTrie, LabelTrieError> {
  const nodes: TrieNode[] = [{ token: -1, depth: 0, children: [], label: null }]
  const childOf = (parent: number, token: number): number => {
    const { children, depth } = nodes[parent]!
    const known = children.find((child) => nodes[child]!.token === token)
    if (known !== undefined) return known
    nodes.push({ token, depth: depth + 1, children: [], label: null })
    children.push(nodes.length - 1)
    return nodes.length - 1
  }
  for (const [label, tokens] of labelTokens.entries()) {
    if (tokens.length === 0) return fail({ reason: 'empty_label', labels: [label] })
    const end = nodes[tokens.reduce(childOf, 0)]!
    if (end.label !== null) return fail({ reason: 'same_tokens', labels: [end.label, label] })
    end.label = label
  }
  for (let index = nodes.length - 1; index > 0; index--) {
    const node = nodes[index]!
    if (node.label === null || node.children.length === 0) continue
    nodes[childOf(index, endToken)]!.label = node.label
    node.label = null
  }
  const feeds: TrieFeed[] = []
  collectFeeds(nodes, 0, feeds)
  const maxFeedDepth = feeds.reduce((deepest, feed) => Math.max(deepest, feed.depth), 0)
  return ok({ nodes, labelTokens, feeds, maxFeedDepth })
}

/**
 * Appends the feeds at and below a node, depth first; omits a subtree without branches.
 * @returns whether the node or one below it branches
 */
function collectFeeds(nodes: readonly TrieNode[], index: number, feeds: TrieFeed[]): boolean {
  const node = nodes[index]!
  const branching = node.children.length > 1
  const at = feeds.length
  if (index > 0) feeds.push({ node: index, token: node.token, depth: node.depth, branching })
  let needed = branching
  for (const child of node.children) needed = collectFeeds(nodes, child, feeds) || needed
  if (!needed) feeds.length = at
  return needed
}

/** One step of a label's path: a node, and its child on the path. */
export type LabelStep = {
  /** Token that leads to the node; null at the root. */
  readonly token: number | null
  /** The child on the path. */
  readonly gold: number
  /** All children, `gold` among them. */
  readonly children: readonly number[]
}

/**
 * A label's path from the root to its last branching node. Log P(label) sums, over the steps, the log
 * softmax over the children at the gold child; a step with one child adds 0.
 * @throws {RangeError} the trie has no such label
 */
export function labelPath({ nodes }: LabelTrie, label: number): LabelStep[] {
  const find = (index: number): number[] | null => {
    if (nodes[index]!.label === label) return [index]
    for (const child of nodes[index]!.children) {
      const below = find(child)
      if (below) return [index, ...below]
    }
    return null
  }
  const path = find(0)
  if (path === null) throw new RangeError(`the trie has no label ${label}`)
  const steps = path.slice(0, -1).map((index, i): LabelStep => {
    const { token, children } = nodes[index]!
    return {
      token: i === 0 ? null : token,
      gold: nodes[path[i + 1]!]!.token,
      children: children.map((child) => nodes[child]!.token),
    }
  })
  while (steps.length > 1 && steps.at(-1)!.children.length === 1) steps.pop()
  return steps
}

/** Computes the labels' log probabilities from the logits of the trie's branching nodes. */
export class LabelScorer {
  readonly #trie: LabelTrie
  /** log P(node | parent), 0 where the parent has no other child. */
  readonly #logProbs: Float64Array

  constructor(trie: LabelTrie) {
    this.#trie = trie
    this.#logProbs = new Float64Array(trie.nodes.length)
  }

  /** @param logits the logits after the node's token, [vocab] */
  read(node: number, logits: Float32Array): void {
    const { nodes } = this.#trie
    const { children } = nodes[node]!
    if (children.length < 2) return
    let largest = -Infinity
    for (const child of children) largest = Math.max(largest, logits[nodes[child]!.token]!)
    let sum = 0
    for (const child of children) sum += Math.exp(logits[nodes[child]!.token]! - largest)
    const logSum = largest + Math.log(sum)
    for (const child of children) {
      this.#logProbs[child] = logits[nodes[child]!.token]! - logSum
    }
  }

  /** @returns log P(label), [labels]; call `read` for every branching node first */
  result(): number[] {
    const { nodes, labelTokens } = this.#trie
    const totals = new Array<number>(labelTokens.length).fill(0)
    const walk = (index: number, logProb: number): void => {
      const node = nodes[index]!
      if (node.label !== null) totals[node.label] = logProb
      for (const child of node.children) walk(child, logProb + this.#logProbs[child]!)
    }
    walk(0, 0)
    return totals
  }
}
