import fc from 'fast-check'
import { describe, test } from 'vitest'
import { logNormaliser, topLogprobs } from '../../../gpu-runner/sampling/log-probs.ts'

const logitRows = fc
  .array(fc.integer({ min: -60, max: 60 }), { minLength: 1, maxLength: 40 })
  .map((row) => Float32Array.from(row))

describe('log probabilities', () => {
  test('are those of a distribution: they sum to one, however large the logits', ({ expect }) => {
    fc.assert(
      fc.property(logitRows, fc.constantFrom(0, 1e4, -1e4), (row, shift) => {
        const logits = row.map((logit) => logit + shift)
        const normaliser = logNormaliser(logits)
        const total = logits.reduce((sum, logit) => sum + Math.exp(logit - normaliser), 0)
        expect(total).toBeCloseTo(1, 10)
      }),
    )
  })

  test('closed form: two equal logits are log 1/2 each', ({ expect }) => {
    expect(-logNormaliser(new Float32Array(2))).toBeCloseTo(Math.log(0.5), 15)
  })

  test('the top ones are the first of the sorted vocabulary, with ties by id', ({ expect }) => {
    fc.assert(
      fc.property(logitRows, fc.integer({ min: 0, max: 45 }), (logits, count) => {
        const normaliser = logNormaliser(logits)
        const sorted = Array.from(logits, (logit, id) => ({
          id,
          logprob: logit - normaliser,
        })).sort((a, b) => b.logprob - a.logprob || a.id - b.id)
        expect(topLogprobs(logits, count, normaliser)).toEqual(sorted.slice(0, count))
      }),
    )
  })
})
