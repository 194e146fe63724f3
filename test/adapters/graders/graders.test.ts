import fc from 'fast-check'
import { describe, it } from 'vitest'
import { checkString } from '../../../adapters/graders/string-check.ts'
import {
  MAX_COMPARED_CHARS,
  SIMILARITY_METRICS,
  textSimilarity,
} from '../../../adapters/graders/text-similarity.ts'

describe('a string check', () => {
  it('compares, or looks for the reference', ({ expect }) => {
    expect(checkString('Yes', 'Yes', 'eq')).toBe(1)
    expect(checkString('yes', 'Yes', 'eq')).toBe(0)
    expect(checkString('Yes', 'Yes', 'ne')).toBe(0)
    expect(checkString('No', 'Yes', 'ne')).toBe(1)
    expect(checkString('Oh Yes!', 'Yes', 'like')).toBe(1)
    expect(checkString('Oh yes!', 'Yes', 'like')).toBe(0)
    expect(checkString('Oh yes!', 'YES', 'ilike')).toBe(1)
    expect(checkString('Yes', 'Oh yes', 'ilike')).toBe(0)
  })
})

describe('text similarity', () => {
  it('has the values that its definitions give', ({ expect }) => {
    // kitten, sitting: the longest common subsequence is ittn.
    expect(textSimilarity('kitten', 'sitting', 'fuzzy_match')).toBeCloseTo((2 * 4) / 13, 12)
    const [text, reference] = ['The cat sat on the mat.', 'the cat lay on a mat']
    // the, cat, on, mat of six words each; "the cat" of five pairs; no three in a row.
    expect(textSimilarity(text, reference, 'rouge_1')).toBeCloseTo(8 / 12, 12)
    expect(textSimilarity(text, reference, 'rouge_2')).toBeCloseTo(2 / 10, 12)
    expect(textSimilarity(text, reference, 'rouge_3')).toBe(0)
    expect(textSimilarity(text, reference, 'rouge_l')).toBeCloseTo(8 / 12, 12)
    // 6 + 5 + 4 + 3 runs of each, 4 + 1 of them shared.
    expect(textSimilarity(text, reference, 'gleu')).toBeCloseTo(5 / 18, 12)
    expect(textSimilarity('one', 'one', 'rouge_2')).toBe(1)
    expect(textSimilarity('one', 'two', 'rouge_2')).toBe(0)
    expect(textSimilarity('', '', 'fuzzy_match')).toBe(1)
  })

  it('is between 0 and 1, symmetric, and 1 for equal texts', ({ expect }) => {
    const words = fc.array(fc.constantFrom('a', 'b', 'Ça', '1', '!'), { maxLength: 12 })
    fc.assert(
      fc.property(words, words, fc.constantFrom(...SIMILARITY_METRICS), (a, b, metric) => {
        const value = textSimilarity(a.join(' '), b.join(' '), metric)
        expect(value).toBeGreaterThanOrEqual(0)
        expect(value).toBeLessThanOrEqual(1)
        expect(textSimilarity(b.join(' '), a.join(' '), metric)).toBe(value)
        expect(textSimilarity(a.join(' '), a.join(' '), metric)).toBe(1)
      }),
    )
  })

  it('takes bounded time on long texts', ({ expect }) => {
    const startedAtMs = performance.now()
    const long = 'ab '.repeat(10 * MAX_COMPARED_CHARS)
    expect(textSimilarity(long, long, 'fuzzy_match')).toBe(1)
    expect(performance.now() - startedAtMs).toBeLessThan(2000)
  })
})
