import { describe, test } from 'vitest'
import { dropPromptTokens } from '../../../gpu-runner/scoring/prompt-dropout.ts'

describe('dropped tokens', () => {
  test('are only the prompt’s own, at about the requested share', ({ expect }) => {
    const dropped = dropPromptTokens([100, 1100], [3, 0], { share: 0.4, seed: 1 })
    expect(Math.min(...dropped)).toBeGreaterThanOrEqual(100)
    expect(Math.max(...dropped)).toBeLessThan(1100)
    expect(dropped).toEqual([...dropped].sort((a, b) => a - b))
    // Four standard deviations of a thousand draws.
    expect(Math.abs(dropped.length - 400)).toBeLessThan(62)
  })

  test('differ by example, candidate and seed', ({ expect }) => {
    const drop = (example: number, candidate: number, seed: number) =>
      dropPromptTokens([0, 50], [example, candidate], { share: 0.5, seed })
    expect(drop(0, 0, 1)).toEqual(drop(0, 0, 1))
    for (const other of [drop(1, 0, 1), drop(0, 1, 1), drop(0, 0, 2)]) {
      expect(other).not.toEqual(drop(0, 0, 1))
    }
    expect(drop(1, 0, 1)).not.toEqual(drop(0, 1, 1))
  })

  test('are none if the prompt has no own tokens, and never all', ({ expect }) => {
    for (let seed = 0; seed < 100; seed++) {
      expect(dropPromptTokens([5, 5], [0, 0], { share: 0.5, seed })).toEqual([])
      expect(dropPromptTokens([5, 3], [0, 0], { share: 0.5, seed })).toEqual([])
      expect(dropPromptTokens([5, 7], [0, 0], { share: 0.9, seed }).length).toBeLessThan(2)
    }
  })
})
