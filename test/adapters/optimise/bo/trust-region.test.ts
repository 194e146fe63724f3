import { describe, it } from 'vitest'
import { latinHypercube } from '../../../../adapters/optimise/bo/design.ts'
import { RANDOM_BO_OPTIONS } from '../../../../adapters/optimise/bo/options.ts'
import { trustRegionLength } from '../../../../adapters/optimise/bo/trust-region.ts'
import { createRng } from '../../../../adapters/optimise/rng.ts'

const lengthAfter = (...values: (number | null)[]): number =>
  trustRegionLength(
    values.map((value, index) => ({ index, z: [], value })),
    2,
    RANDOM_BO_OPTIONS,
  )
const times = <T>(count: number, value: T): T[] => new Array<T>(count).fill(value)

describe('the trust region', () => {
  it('begins at its start length, whatever the initial design gives', ({ expect }) => {
    expect(lengthAfter()).toBe(0.8)
    expect(lengthAfter(-2, -1)).toBe(0.8)
  })

  it('halves after eight trials without an improvement', ({ expect }) => {
    expect(lengthAfter(-2, -1, ...times(7, -3))).toBe(0.8)
    expect(lengthAfter(-2, -1, ...times(8, -3))).toBe(0.4)
    expect(lengthAfter(-2, -1, ...times(16, -3))).toBe(0.2)
  })

  it('counts a failed trial and a tiny gain as no improvement', ({ expect }) => {
    expect(lengthAfter(-2, -1, ...times(8, null))).toBe(0.4)
    expect(lengthAfter(-2, -1, ...times(7, -3), -0.9999)).toBe(0.4)
    expect(lengthAfter(-2, -1, ...times(7, -3), -0.99)).toBe(0.8)
  })

  it('doubles after three improvements in a row, up to the whole domain', ({ expect }) => {
    expect(lengthAfter(-2, -1, -0.9, -0.8)).toBe(0.8)
    expect(lengthAfter(-2, -1, -0.9, -0.8, -0.7)).toBe(1.6)
    expect(lengthAfter(-2, -1, -0.9, -0.8, -3, -0.7)).toBe(0.8)
    expect(lengthAfter(-2, -1, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4)).toBe(1.6)
  })

  it('begins again below its least length', ({ expect }) => {
    // .8 / 2^6 is above 2^-7 and .8 / 2^7 below it.
    expect(lengthAfter(-2, -1, ...times(8 * 6, -3))).toBe(0.8 / 64)
    expect(lengthAfter(-2, -1, ...times(8 * 7, -3))).toBe(0.8)
  })

  it('counts the first success after failures as an improvement', ({ expect }) => {
    expect(lengthAfter(null, null, ...times(7, null), -5)).toBe(0.8)
  })
})

describe('the initial design', () => {
  it('has one point in each part of each coordinate’s range', ({ expect }) => {
    const points = latinHypercube(15, 20, createRng(1))
    for (let k = 0; k < 20; k++) {
      const parts = points.map((point) => Math.floor(((point[k]! + 1) / 2) * 15))
      expect([...parts].sort((a, b) => a - b)).toEqual(Array.from({ length: 15 }, (_, i) => i))
    }
  })
})
