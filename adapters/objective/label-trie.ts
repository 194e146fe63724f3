/**
 * Labels as a trie of their tokens. P(label) is the product along its path of the probabilities
 * renormalised over a node's children, so a node with one child costs nothing; where a label is a
 * prefix of another, the end-of-turn token is a child of its own (DESIGN §5).
 */
import { fail, ok, type Result } from '../result.ts'

export type TrieNode = {
  /** Token on the edge from the parent; meaningless at the root. */
  readonly token: number
  /** Tokens from the root. */
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
  /** Whether this node's logits are read: it has two children or more. */
  readonly branching: boolean
}

export type LabelTrie = {
  /** Node 0 is the root: the position after the last prompt token. */
  readonly nodes: readonly TrieNode[]
  /** Tokens of each label, without an end-of-turn token. */
  readonly labelTokens: readonly (readonly number[])[]
  /**
   * Tokens to feed, in an order in which every node's ancestors were the last fed at their depths,
   * so that one row whose later positions are overwritten serves the whole trie.
   */
  readonly feeds: readonly TrieFeed[]
  /** Most tokens that stand after the prompt at once. */
  readonly maxFeedDepth: number
}

export type LabelTrieError = {
  readonly reason: 'empty_label' | 'same_tokens'
  readonly labels: readonly number[]
}

/**
 * @param labelTokens tokens of each label, [labels][tokens]
 * @param endToken the end-of-turn token, the child that ends a label which others extend
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

/** Adds the feeds below a node in depth-first order; @returns whether it or one below branches. */
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

/** One step of a label's path: the node whose logits decide it. */
export type LabelStep = {
  /** Token that leads to the node; null at the root. */
  readonly token: number | null
  /** The child on the path. */
  readonly gold: number
  /** All children, `gold` among them. */
  readonly children: readonly number[]
}

/**
 * A label's path from the root to its last branching node. Log P(label) is the sum over the steps of
 * log softmax over the children, at the gold one; a step with one child adds 0.
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
  if (path === null) throw new RangeError(`no label ${label}`)
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

/** Adds up log probabilities along the trie, from the logits of its branching nodes. */
export class LabelScorer {
  readonly #trie: LabelTrie
  /** log P(node | parent), 0 where the parent has no other child. */
  readonly #logProbs: Float64Array

  constructor(trie: LabelTrie) {
    this.#trie = trie
    this.#logProbs = new Float64Array(trie.nodes.length)
  }

  /**
   * Takes the logits that follow a node.
   * @param logits [vocab]
   */
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

  /** @returns log P of each label, [labels]; every branching node must have been read */
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
