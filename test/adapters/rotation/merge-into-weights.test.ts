import { describe, it } from 'vitest'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { mergeIntoOutputProjection } from '../../../adapters/rotation/merge-into-weights.ts'

describe('a merged output projection', () => {
  it('maps z as the base matrix maps the rotated z', ({ expect }) => {
    const rng = createRng(3, 1)
    const [rows, pairs] = [5, 4]
    const draw = (length: number) => Float32Array.from({ length }, () => 2 * rng.uniform() - 1)
    const weight = draw(rows * 2 * pairs)
    const z = draw(2 * pairs)
    const rotation = { angles: draw(pairs).map((a) => 3 * a), logScale: draw(pairs) }
    const rotated = z.slice()
    for (let i = 0; i < pairs; i++) {
      const r = Math.exp(rotation.logScale[i]!)
      const [c, s] = [Math.cos(rotation.angles[i]!), Math.sin(rotation.angles[i]!)]
      rotated[2 * i] = r * (c * z[2 * i]! - s * z[2 * i + 1]!)
      rotated[2 * i + 1] = r * (s * z[2 * i]! + c * z[2 * i + 1]!)
    }
    const times = (matrix: Float32Array, x: Float32Array) =>
      Array.from({ length: rows }, (_, row) =>
        x.reduce((sum, value, k) => sum + matrix[row * x.length + k]! * value, 0),
      )
    const expected = times(weight, rotated)
    mergeIntoOutputProjection(weight, rotation)
    times(weight, z).forEach((value, row) => {
      expect(value).toBeCloseTo(expected[row]!, 5)
    })
  })

  it('is refused with another width', ({ expect }) => {
    const rotation = { angles: new Float32Array(4) }
    expect(() => {
      mergeIntoOutputProjection(new Float32Array(20), rotation)
    }).toThrow(RangeError)
  })
})
