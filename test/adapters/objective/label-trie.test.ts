import { describe, test } from 'vitest'
import fc from 'fast-check'
import { buildLabelTrie, LabelScorer } from '../../../adapters/objective/label-trie.ts'

const END = 9
const build = (labels: number[][]) => {
  const trie = buildLabelTrie(labels, END)
  if (!trie.ok) throw new Error(trie.error.reason)
  return trie.value
}

describe('label trie', () => {
  test('labels with different first tokens need no token after the prompt', ({ expect }) => {
    const trie = build([[1, 2, 3], [4], [5, 6]])
    expect(trie.feeds).toEqual([])
    expect(trie.maxFeedDepth).toBe(0)
  })

  test('a label that others extend ends with the end-of-turn token', ({ expect }) => {
    const trie = build([[1], [1, 2], [3]])
    expect(trie.feeds.map(({ token, depth }) => [token, depth])).toEqual([[1, 1]])
    const scorer = new LabelScorer(trie)
    const root = new Float32Array(10)
    root[1] = Math.log(3)
    scorer.read(0, root)
    const after = new Float32Array(10)
    after[2] = Math.log(4)
    scorer.read(trie.feeds[0]!.node, after)
    const probabilities = scorer.result().map(Math.exp)
    expect(probabilities[0]).toBeCloseTo((3 / 4) * (1 / 5), 6)
    expect(probabilities[1]).toBeCloseTo((3 / 4) * (4 / 5), 6)
    expect(probabilities[2]).toBeCloseTo(1 / 4, 6)
  })

  test('labels with the same tokens are refused, with their indices', ({ expect }) => {
    expect(buildLabelTrie([[1], [2], [1]], END)).toEqual({
      ok: false,
      error: { reason: 'same_tokens', labels: [0, 2] },
    })
    expect(buildLabelTrie([[1], []], END)).toMatchObject({ error: { reason: 'empty_label' } })
  })

  const labelSets = fc.uniqueArray(
    fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 5 }),
    { minLength: 1, maxLength: 12, selector: (tokens) => tokens.join(',') },
  )

  test('probabilities of any label set add up to one', ({ expect }) => {
    fc.assert(
      fc.property(
        labelSets,
        fc.infiniteStream(fc.float({ min: -5, max: 5, noNaN: true })),
        (labels, values) => {
          const trie = build(labels)
          const scorer = new LabelScorer(trie)
          const logits = () =>
            Float32Array.from({ length: 10 }, () => values.next().value as number)
          scorer.read(0, logits())
          for (const feed of trie.feeds) scorer.read(feed.node, logits())
          const total = scorer.result().reduce((sum, logProb) => sum + Math.exp(logProb), 0)
          expect(total).toBeCloseTo(1, 9)
        },
      ),
    )
  })

  test('when a node is read, the row holds exactly the node’s path', ({ expect }) => {
    fc.assert(
      fc.property(labelSets, (labels) => {
        const trie = build(labels)
        const row: number[] = []
        const parentOf = new Map(
          trie.nodes.flatMap((node, i) => node.children.map((c) => [c, i] as const)),
        )
        for (const feed of trie.feeds) {
          row[feed.depth] = feed.token
          const path: number[] = []
          for (let node = feed.node; node !== 0; node = parentOf.get(node)!) {
            path.unshift(trie.nodes[node]!.token)
          }
          expect(row.slice(1, feed.depth + 1)).toEqual(path)
        }
        const branching = trie.nodes.flatMap((node, i) => (node.children.length > 1 ? [i] : []))
        const fed = trie.feeds.filter((feed) => feed.branching).map((feed) => feed.node)
        expect(fed).toEqual(
          branching.filter((node) => node !== 0).sort((a, b) => fed.indexOf(a) - fed.indexOf(b)),
        )
      }),
    )
  })
})
