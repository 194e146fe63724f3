import { describe, test } from 'vitest'
import { distinctPairs, hidePrompt } from './text.ts'

describe('continuations', () => {
  test('are shown without the words that they repeat from their prompt', ({ expect }) => {
    const prompt = 'The old mill by the river was never sold'
    expect(hidePrompt('"The old mill by the river" is a fine film', prompt)).toBe(
      '[…] is a fine film',
    )
    expect(hidePrompt('Say: the OLD mill by\nthe river, was never sold. Good.', prompt)).toBe(
      'Say: […] Good.',
    )
    expect(hidePrompt('the old mill by a lake', prompt)).toBe('the old mill by a lake')
  })

  test('have a diversity by their distinct word pairs', ({ expect }) => {
    expect(distinctPairs(['a b c', 'A, b d'])).toBe(3 / 4)
    expect(distinctPairs(['very very very very'])).toBe(1 / 3)
    expect(distinctPairs(['one', ''])).toBe(1)
  })
})
