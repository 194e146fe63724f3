import { describe, it } from 'vitest'
import { createRng, permutation } from '../../../adapters/optimise/rng.ts'

const draws = (count: number, seed: number, ...stream: number[]): number[] => {
  const rng = createRng(seed, ...stream)
  return Array.from({ length: count }, rng.uniform)
}

describe('the generator', () => {
  it('has a fixed sequence, because resumed jobs depend on it', ({ expect }) => {
    expect(draws(3, 42, 3, 17)).toMatchInlineSnapshot(`
      [
        0.2490514348634194,
        0.9361306872709283,
        0.5305637396342511,
      ]
    `)
  })

  it('gives other numbers for another seed, stream or high half of the seed', ({ expect }) => {
    const first = [
      draws(1, 1, 2),
      draws(1, 2, 1),
      draws(1, 1),
      draws(1, 1, 2, 0),
      draws(1, 1 + 2 ** 32, 2),
      draws(1, -1, 2),
    ].flat()
    expect(new Set(first).size).toBe(first.length)
  })

  it('has the first moments of the uniform and the normal distribution', ({ expect }) => {
    const count = 20_000
    const rng = createRng(7)
    const uniform = Array.from({ length: count }, rng.uniform)
    const normal = Array.from({ length: count }, rng.normal)
    const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / count
    // Five standard errors.
    expect(Math.abs(mean(uniform) - 0.5)).toBeLessThan((5 * Math.sqrt(1 / 12)) / Math.sqrt(count))
    expect(Math.abs(mean(normal))).toBeLessThan(5 / Math.sqrt(count))
    expect(Math.abs(mean(normal.map((v) => v * v)) - 1)).toBeLessThan(5 * Math.sqrt(2 / count))
    expect(uniform.every((value) => value >= 0 && value < 1)).toBe(true)
    // Neighbouring streams are unrelated.
    const first = Array.from({ length: count }, (_, i) => createRng(7, i).uniform())
    expect(Math.abs(mean(first) - 0.5)).toBeLessThan((5 * Math.sqrt(1 / 12)) / Math.sqrt(count))
  })

  it('permutes', ({ expect }) => {
    const order = permutation(50, createRng(3))
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i))
    expect(order).not.toEqual(Array.from({ length: 50 }, (_, i) => i))
  })
})
