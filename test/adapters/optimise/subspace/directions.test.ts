import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  decodeDirections,
  encodeDirections,
  groupExamples,
} from '../../../../adapters/optimise/subspace/directions.ts'

const golds = fc.array(fc.nat(6), { minLength: 1, maxLength: 90 })

describe('groupExamples', () => {
  it('puts every example into one group, with groups of about equal size', ({ expect }) => {
    fc.assert(
      fc.property(golds, fc.integer({ min: 1, max: 40 }), (gold, maxGroups) => {
        const groups = groupExamples(gold, maxGroups)
        expect(groups.length).toBe(Math.min(gold.length, maxGroups))
        expect(groups.flat().sort((a, b) => a - b)).toEqual(gold.map((_, example) => example))
        const sizes = groups.map(({ length }) => length)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
      }),
    )
  })

  it('keeps labels together', ({ expect }) => {
    expect(groupExamples([1, 0, 1, 0, 1, 0, 0, 1], 4)).toEqual([
      [1, 3],
      [5, 6],
      [0, 2],
      [4, 7],
    ])
  })
})

describe('directions as bytes', () => {
  const geometry = { numLayers: 5, numHeads: 2, headDim: 4 }
  const directions = [0, 1, 2].map((k) => Float32Array.from({ length: 12 }, (_, i) => k + i / 7))

  it('are read unchanged, from any offset in a buffer', ({ expect }) => {
    const bytes = encodeDirections(directions)
    const shifted = new Uint8Array(bytes.length + 1)
    shifted.set(bytes, 1)
    expect(decodeDirections(shifted.subarray(1), geometry, 3)).toEqual(directions)
  })

  it('are refused if they are not whole', ({ expect }) => {
    const bytes = encodeDirections(directions)
    expect(() => decodeDirections(bytes.subarray(4), geometry, 3)).toThrow(RangeError)
    expect(() => decodeDirections(bytes, geometry, 5)).toThrow(RangeError)
    expect(() => decodeDirections(new Uint8Array(), geometry, 3)).toThrow(RangeError)
  })
})
