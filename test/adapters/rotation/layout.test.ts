import { describe, it } from 'vitest'
import { layOut } from '../../../adapters/rotation/layout.ts'
import { identityRotation, type Rotation } from '../../../adapters/rotation/rotation.ts'

const GEOMETRY = { numLayers: 4, numHeads: 1, headDim: 4 }
const turned: Rotation = {
  geometry: GEOMETRY,
  layers: new Map([
    [1, { angles: Float32Array.of(1, 2) }],
    [3, { angles: Float32Array.of(3, 4) }],
  ]),
}
const scaled: Rotation = {
  geometry: GEOMETRY,
  layers: new Map([[3, { angles: Float32Array.of(5, 6), logScale: Float32Array.of(7, 8) }]]),
}

describe('layOut', () => {
  it('writes rotation by rotation and layer by layer, zeros for the identity', ({ expect }) => {
    const { hasLogScale, values } = layOut([turned, identityRotation(GEOMETRY)], [1, 3], GEOMETRY)
    expect(hasLogScale).toBe(false)
    expect([...values]).toEqual([1, 2, 3, 4, 0, 0, 0, 0])
  })

  it('writes all log scales after all angles, in the same order', ({ expect }) => {
    const { hasLogScale, values } = layOut([turned, scaled], [1, 3], GEOMETRY)
    expect(hasLogScale).toBe(true)
    expect([...values]).toEqual([1, 2, 3, 4, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 7, 8])
  })

  it('omits other layers, and scales that only those have', ({ expect }) => {
    const { hasLogScale, values } = layOut([turned, scaled], [1], GEOMETRY)
    expect(hasLogScale).toBe(false)
    expect([...values]).toEqual([1, 2, 0, 0])
  })
})
