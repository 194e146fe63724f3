import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { columnsAboveChance, pairedDifference } from './resample.ts'
import type { Measured } from './store.ts'

const say = (label: number, numLabels = 2): number[] =>
  Array.from({ length: numLabels }, (_, k) => (k === label ? -0.1 : -3))

function entry(set: string, columns: Record<string, readonly number[]>, gold: number[]): Measured {
  return {
    set,
    seed: 0,
    split: 'validation',
    num_rows: gold.length,
    num_train: 20,
    gold,
    columns: Object.fromEntries(
      Object.entries(columns).map(([name, labels]) => [name, labels.map((label) => say(label))]),
    ),
    jobs: {},
  }
}

describe('pairedDifference', () => {
  it('is one where a column is always right and the other never', ({ expect }) => {
    const gold = [0, 0, 0, 1]
    const wrong = gold.map((label) => 1 - label)
    const found = pairedDifference([entry('a', { right: gold, wrong }, gold)], 'right', 'wrong')
    expect(found).toMatchObject({ difference: 1, interval: [1, 1] })
  })

  it('counts labels alike, and sets alike', ({ expect }) => {
    // Set a: right on one of three rows of label 0 and on the one of label 1, against none. Set b: equal.
    const a = entry('a', { one: [0, 1, 1, 1], none: [1, 1, 1, 0] }, [0, 0, 0, 1])
    const b = entry('b', { one: [0, 1], none: [0, 1] }, [0, 1])
    expect(pairedDifference([a, b], 'one', 'none').difference).toBeCloseTo((1 / 3 + 1) / 2 / 2, 4)
  })

  it('holds a difference of nothing in about 95 of 100 intervals', ({ expect }) => {
    const rng = createRng(3)
    let numHolding = 0
    for (let i = 0; i < 100; i++) {
      const gold = Array.from({ length: 150 }, () => Number(rng.uniform() < 0.5))
      const guess = () => gold.map(() => Number(rng.uniform() < 0.5))
      const { interval } = pairedDifference(
        [entry('a', { x: guess(), y: guess() }, gold)],
        'x',
        'y',
      )
      if (interval[0] <= 0 && interval[1] >= 0) numHolding++
    }
    expect(numHolding).toBeGreaterThanOrEqual(89)
    expect(numHolding).toBeLessThan(100)
  })
})

describe('columnsAboveChance', () => {
  const rng = createRng(5)
  const gold = Array.from({ length: 300 }, () => Number(rng.uniform() < 0.5))
  const answer = (share: number) => gold.map((label) => (rng.uniform() < share ? label : 1 - label))

  it('names a column that is right three times in four', ({ expect }) => {
    const measured = [entry('a', { base: answer(0.5), good: answer(0.75) }, gold)]
    expect(columnsAboveChance(measured, ['base', 'good'])).toEqual(['good'])
  })

  it('names no guesses, nor one answer for all', ({ expect }) => {
    const measured = [entry('a', { guess: answer(0.5), same: gold.map(() => 1) }, gold)]
    expect(columnsAboveChance(measured, ['guess', 'same'])).toEqual([])
  })
})
