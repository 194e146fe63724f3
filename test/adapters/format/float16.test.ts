import fc from 'fast-check'
import { describe, it } from 'vitest'
import { fromFloat16Bits, MAX_FLOAT16, toFloat16Bits } from '../../../adapters/format/float16.ts'
import { needs } from '../../fixtures/needs.ts'

/** The runtime's own conversion (Node 24), to compare with. */
const view = new DataView(new ArrayBuffer(2))
const hasFloat16 = 'setFloat16' in DataView.prototype

describe('binary16', () => {
  it('agrees with published encodings', ({ expect }) => {
    const known: readonly (readonly [number, number])[] = [
      [0, 0x0000],
      [-0, 0x8000],
      [1, 0x3c00],
      [-2, 0xc000],
      [1 / 3, 0x3555],
      [MAX_FLOAT16, 0x7bff],
      [65519.99, 0x7bff],
      [65520, 0x7c00],
      [1e300, 0x7c00],
      [-Infinity, 0xfc00],
      [2 ** -14, 0x0400],
      [2 ** -14 - 2 ** -25, 0x0400],
      [2 ** -14 - 2 ** -24, 0x03ff],
      [2 ** -24, 0x0001],
      [2 ** -25, 0x0000],
      [2 ** -25 * 1.0001, 0x0001],
      [5e-324, 0x0000],
    ]
    for (const [value, bits] of known) expect([value, toFloat16Bits(value)]).toEqual([value, bits])
    expect(fromFloat16Bits(toFloat16Bits(NaN))).toBeNaN()
  })

  it('rounds ties to even, directly from float64 and not through float32', ({ expect }) => {
    const step = 2 ** -10
    expect(toFloat16Bits(1 + step / 2)).toBe(0x3c00)
    expect(toFloat16Bits(1 + 1.5 * step)).toBe(0x3c02)
    // Float32 would round this onto the tie, and the tie down.
    expect(toFloat16Bits(1 + step / 2 + 2 ** -40)).toBe(0x3c01)
    // A carry out of the mantissa.
    expect(toFloat16Bits(2 - step / 4)).toBe(0x4000)
  })

  it('reads each of the 65,536 encodings and writes it back', ({ expect }) => {
    let wrong = 0
    for (let bits = 0; bits <= 0xffff; bits++) {
      const value = fromFloat16Bits(bits)
      const again = toFloat16Bits(value)
      if (Number.isNaN(value) ? !Number.isNaN(fromFloat16Bits(again)) : again !== bits) wrong++
    }
    expect(wrong).toBe(0)
  })

  it(
    'agrees with the runtime everywhere',
    needs('DataView.setFloat16', hasFloat16),
    ({ expect }) => {
      const values = fc.oneof(
        fc.double({ noNaN: true }),
        fc.double({ min: -70000, max: 70000, noNaN: true }),
        fc.double({ min: -1e-4, max: 1e-4, noNaN: true }),
      )
      fc.assert(
        fc.property(values, (value) => {
          view.setFloat16(0, value)
          expect(toFloat16Bits(value)).toBe(view.getUint16(0))
        }),
        { numRuns: 2000 },
      )
    },
  )
})
