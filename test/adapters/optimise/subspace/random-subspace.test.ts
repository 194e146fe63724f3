import fc from 'fast-check'
import { describe, it } from 'vitest'
import { createRng } from '../../../../adapters/optimise/rng.ts'
import { projectToBall } from '../../../../adapters/optimise/subspace/ball.ts'
import { createRandomSubspace } from '../../../../adapters/optimise/subspace/random-subspace.ts'
import { touchedLayers } from '../../../../adapters/rotation/rotation.ts'

const geometry = { numLayers: 6, numHeads: 3, headDim: 8 }
const subspace = createRandomSubspace(geometry, 2, 6, 5, createRng(4))

const vectors = fc.array(fc.double({ min: -3, max: 3, noNaN: true }), {
  minLength: 5,
  maxLength: 5,
})

/** All angles of the rotation in one array. */
const anglesOf = (z: readonly number[]): number[] =>
  [...subspace.toRotation(z).layers.values()].flatMap(({ angles }) => [...angles])

describe('a random subspace', () => {
  it('touches only its layers, and none at z = 0', ({ expect }) => {
    expect(touchedLayers(subspace.toRotation([0, 1, 0, 0, 0]))).toEqual([2, 3, 4, 5])
    expect(subspace.toRotation([0, 0, 0, 0, 0]).layers.size).toBe(0)
  })

  it('keeps norms: the angles have the norm of z', ({ expect }) => {
    fc.assert(
      fc.property(vectors, (z) => {
        expect(Math.hypot(...anglesOf(z))).toBeCloseTo(Math.hypot(...z), 5)
      }),
    )
  })

  it('is linear in z', ({ expect }) => {
    const a = anglesOf([1, 0, -2, 0, 0])
    const x = anglesOf([1, 0, 0, 0, 0])
    const y = anglesOf([0, 0, 1, 0, 0])
    a.forEach((value, i) => {
      expect(value).toBeCloseTo(x[i]! - 2 * y[i]!, 6)
    })
  })

  it('refuses missing layers and more directions than angles', ({ expect }) => {
    expect(() => createRandomSubspace(geometry, 2, 7, 5, createRng(4))).toThrow(RangeError)
    expect(() => createRandomSubspace(geometry, 2, 2, 5, createRng(4))).toThrow(RangeError)
    expect(() => createRandomSubspace(geometry, 5, 6, 13, createRng(4))).toThrow(/13 directions/)
  })
})

describe('projectToBall', () => {
  it('moves only points outside the ball', ({ expect }) => {
    expect(projectToBall([3, 4], 1)).toEqual([0.6000000000000001, 0.8])
    expect(projectToBall([0.3, 0.4], 1)).toEqual([0.3, 0.4])
  })
})
