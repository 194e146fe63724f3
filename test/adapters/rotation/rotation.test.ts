import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  composeRotations,
  type Geometry,
  identityRotation,
  inverseRotation,
  MAX_APPLIED_LOG_SCALE,
  pairsPerLayer,
  type Rotation,
  scaleRotation,
  touchedLayers,
  writeRotationTable,
} from '../../../adapters/rotation/rotation.ts'
import { geometry, rotations } from '../arbitraries.ts'

const PAIRS = pairsPerLayer(geometry)

/** Every layer's tables, [layers · pairs] each. */
function tablesOf(rotation: Rotation): { cos: Float32Array; sin: Float32Array } {
  const cos = new Float32Array(geometry.numLayers * PAIRS)
  const sin = new Float32Array(cos.length)
  for (let layer = 0; layer < geometry.numLayers; layer++) {
    writeRotationTable(rotation.layers.get(layer), cos, sin, layer * PAIRS, PAIRS)
  }
  return { cos, sin }
}

const single = (angle: number, logScale?: number): Rotation => ({
  geometry: { numLayers: 1, numHeads: 1, headDim: 2 },
  layers: new Map([
    [
      0,
      {
        angles: Float32Array.of(angle),
        ...(logScale === undefined ? {} : { logScale: Float32Array.of(logScale) }),
      },
    ],
  ]),
})

describe('composition', () => {
  it('does nothing at strength zero: tables of exactly 1 and +0', ({ expect }) => {
    fc.assert(
      fc.property(rotations, (rotation) => {
        const { cos, sin } = tablesOf(scaleRotation(rotation, 0))
        expect(cos.every((value) => value === 1)).toBe(true)
        expect(sin.every((value) => Object.is(value, 0))).toBe(true)
        expect(touchedLayers(scaleRotation(rotation, 0))).toEqual([])
      }),
    )
  })

  it('is undone exactly by the inverse', ({ expect }) => {
    fc.assert(
      fc.property(rotations, (rotation) => {
        const both = composeRotations(geometry, [
          { rotation, weight: 1 },
          { rotation: inverseRotation(rotation), weight: 1 },
        ])
        expect(both).toEqual(identityRotation(geometry))
      }),
    )
  })

  it('does not depend on the order of its terms', ({ expect }) => {
    fc.assert(
      fc.property(rotations, rotations, (a, b) => {
        const left = { rotation: a, weight: 0.5 }
        const right = { rotation: b, weight: -2 }
        expect(composeRotations(geometry, [left, right])).toEqual(
          composeRotations(geometry, [right, left]),
        )
      }),
    )
  })

  it('multiplies the complex numbers of its terms', ({ expect }) => {
    fc.assert(
      fc.property(rotations, rotations, (a, b) => {
        const product = tablesOf(
          composeRotations(geometry, [
            { rotation: a, weight: 1 },
            { rotation: b, weight: 1 },
          ]),
        )
        const x = tablesOf(a)
        const y = tablesOf(b)
        for (let i = 0; i < x.cos.length; i++) {
          const re = x.cos[i]! * y.cos[i]! - x.sin[i]! * y.sin[i]!
          const im = x.cos[i]! * y.sin[i]! + x.sin[i]! * y.cos[i]!
          // Angles to ±6.4 and r to e^2: float32 rounding of the sum of angles, times r.
          const tolerance = 4e-6 * Math.hypot(re, im)
          expect(Math.abs(product.cos[i]! - re)).toBeLessThanOrEqual(tolerance)
          expect(Math.abs(product.sin[i]! - im)).toBeLessThanOrEqual(tolerance)
        }
      }),
    )
  })

  it('gives the same result if it is nested', ({ expect }) => {
    fc.assert(
      fc.property(rotations, rotations, (a, b) => {
        // Doubling is exact in float32, subnormals included, so the inner rounding stays out of it.
        const nested = composeRotations(geometry, [
          { rotation: scaleRotation(a, 2), weight: 0.5 },
          { rotation: scaleRotation(b, 4), weight: 0.25 },
        ])
        const flat = composeRotations(geometry, [
          { rotation: a, weight: 1 },
          { rotation: b, weight: 1 },
        ])
        expect(nested).toEqual(flat)
      }),
    )
  })

  it('sums in float64, so that many small terms survive beside a large one', ({ expect }) => {
    const large = single(16)
    const small = single(2 ** -22)
    const sum = composeRotations(large.geometry, [
      { rotation: large, weight: 1 },
      ...Array.from({ length: 16 }, () => ({ rotation: small, weight: 1 })),
    ])
    expect(sum.layers.get(0)!.angles[0]).toBe(Math.fround(16 + 2 ** -18))
  })

  it('refuses another geometry, a weight that is not finite and a wrong length', ({ expect }) => {
    const other: Geometry = { ...geometry, numHeads: geometry.numHeads + 1 }
    const rotation = identityRotation(other)
    expect(() => composeRotations(geometry, [{ rotation, weight: 1 }])).toThrow(RangeError)
    expect(() => scaleRotation(rotation, NaN)).toThrow(RangeError)
    const short = { geometry, layers: new Map([[0, { angles: new Float32Array(1) }]]) }
    expect(() => scaleRotation(short, 1)).toThrow(/1 pairs/)
  })
})

describe('touchedLayers', () => {
  it('names layers with an angle or a scale, ascending', ({ expect }) => {
    const zero = (): Float32Array => new Float32Array(PAIRS)
    const one = zero().fill(1, 3, 4)
    const layers = new Map([
      [2, { angles: one }],
      [1, { angles: zero() }],
      [0, { angles: zero(), logScale: one }],
    ])
    expect(touchedLayers({ geometry, layers })).toEqual([0, 2])
  })
})

describe('writeRotationTable', () => {
  it('writes r·cos and r·sin at its offset and nothing else', ({ expect }) => {
    const cos = new Float32Array(4).fill(9)
    const sin = new Float32Array(4).fill(9)
    const layer = {
      angles: Float32Array.of(Math.PI / 2, Math.PI / 6),
      logScale: Float32Array.of(0, Math.log(2)),
    }
    writeRotationTable(layer, cos, sin, 1, 2)
    expect([cos[0], cos[3], sin[0], sin[3]]).toEqual([9, 9, 9, 9])
    expect(cos[1]).toBeCloseTo(0, 7)
    expect(sin[1]).toBeCloseTo(1, 7)
    expect(cos[2]).toBeCloseTo(Math.sqrt(3), 6)
    expect(sin[2]).toBeCloseTo(1, 6)
  })

  it('stays finite at any composed scale', ({ expect }) => {
    const { layers } = scaleRotation(single(0.1, 4), 64)
    const cos = new Float32Array(1)
    const sin = new Float32Array(1)
    writeRotationTable(layers.get(0), cos, sin, 0, 1)
    expect(cos[0]).toBe(
      Math.fround(Math.exp(MAX_APPLIED_LOG_SCALE) * Math.cos(layers.get(0)!.angles[0]!)),
    )
    expect(Number.isFinite(sin[0])).toBe(true)
  })

  it('refuses a table or a layer of the wrong length', ({ expect }) => {
    const table = new Float32Array(2)
    expect(() => {
      writeRotationTable(undefined, table, table, 1, 2)
    }).toThrow(RangeError)
    const layer = { angles: new Float32Array(1) }
    expect(() => {
      writeRotationTable(layer, table, table, 0, 2)
    }).toThrow(/1 pairs/)
  })
})
