import { describe, it } from 'vitest'
import { applyBias } from '../../../adapters/objective/label-log-probs.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { knowledgeTest, type AnsweredSet } from '../../../adapters/statistics/knowledge.ts'

/** Two labels in turn, and a model whose log odds are `knowledge` for the right one, plus noise. */
function answers(numExamples: number, knowledge: number, seed: number): AnsweredSet {
  const rng = createRng(seed, 1)
  const gold = Array.from({ length: numExamples }, (_, i) => i % 2)
  const logits = gold.map((label) => {
    const odds = (label === 0 ? knowledge : -knowledge) + rng.normal()
    return [odds / 2, -odds / 2]
  })
  return { gold, logProbs: applyBias(logits, [0, 0]) }
}

describe('the test of a model’s knowledge', () => {
  it('gives the share of permutations that do as well, counted by hand', ({ expect }) => {
    // Of the 6 orders of two labels over four examples, 1 is all right.
    const sure = [
      [-0.1, -3],
      [-0.1, -3],
      [-3, -0.1],
      [-3, -0.1],
    ]
    expect(knowledgeTest([{ logProbs: sure, gold: [0, 0, 1, 1] }])).toBeCloseTo(1 / 6, 1.5)
    expect(knowledgeTest([{ logProbs: sure, gold: [1, 1, 0, 0] }])).toBe(1)
  })

  it('passes without knowledge in five of a hundred cases', ({ expect }) => {
    const found = Array.from({ length: 200 }, (_, seed) => knowledgeTest([answers(20, 0, seed)]))
    const numFound = found.filter((pValue) => pValue <= 0.05).length
    // Mean 10, standard deviation 3.
    expect(numFound).toBeGreaterThan(1)
    expect(numFound).toBeLessThan(20)
  })

  it('finds knowledge in one set or in two', ({ expect }) => {
    expect(knowledgeTest([answers(20, 2, 1)])).toBeLessThan(0.01)
    // Only both sets together show it.
    const [one, two] = [answers(14, 0.6, 4), answers(14, 0.6, 5)]
    const together = knowledgeTest([one, two])
    expect(together).toBeLessThan(knowledgeTest([one]))
    expect(together).toBeLessThan(knowledgeTest([two]))
  })

  it('does not depend on a label bias', ({ expect }) => {
    const { gold, logProbs } = answers(30, 0.4, 3)
    const leaning = applyBias(logProbs, [4, 0])
    expect(knowledgeTest([{ gold, logProbs: leaning }])).toBe(knowledgeTest([{ gold, logProbs }]))
  })

  it('does not count a preference for the commoner label as knowledge', ({ expect }) => {
    const gold = Array.from({ length: 40 }, (_, i) => (i % 10 === 0 ? 1 : 0))
    const logProbs = gold.map(() => [Math.log(0.9), Math.log(0.1)])
    expect(knowledgeTest([{ gold, logProbs }])).toBe(1)
  })

  it('refuses sets with unequal lengths and no examples', ({ expect }) => {
    expect(() => knowledgeTest([])).toThrow(RangeError)
    expect(() => knowledgeTest([{ gold: [0], logProbs: [] }])).toThrow(RangeError)
  })
})
