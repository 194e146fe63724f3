import { readFileSync } from 'node:fs'
import { describe, it } from 'vitest'
import { dequantise, type TensorType } from '../../../../gpu-runner/model/gguf/index.ts'

const FIXTURE = JSON.parse(
  readFileSync(new URL('../../fixtures/dequantise.json', import.meta.url), 'utf8'),
) as { types: Record<TensorType, { blocks: string; values: string }> }

/** 1.5, −0.25 and 0.5 as float16, little-endian. */
const ONE_AND_A_HALF = [0x00, 0x3e]
const MINUS_A_QUARTER = [0x00, 0xb4]
const HALF = [0x00, 0x38]

describe('dequantise', () => {
  it('reads F32 from any alignment', ({ expect }) => {
    const bytes = new Uint8Array(9)
    new DataView(bytes.buffer).setFloat32(1, -3.25, true)
    new DataView(bytes.buffer).setFloat32(5, 1e-30, true)
    expect([...dequantise('F32', bytes.subarray(1), 2)]).toEqual([-3.25, Math.fround(1e-30)])
  })

  it('reads F16: normal, subnormal, zero of both signs, infinite and not a number', ({
    expect,
  }) => {
    const patterns = [0x3e00, 0xb400, 0x0001, 0x03ff, 0x8000, 0x7bff, 0x7c00, 0xfc00, 0x7e00]
    const bytes = new Uint8Array(new Uint16Array(patterns).buffer)
    expect([...dequantise('F16', bytes, patterns.length)]).toEqual([
      1.5,
      -0.25,
      2 ** -24,
      1023 * 2 ** -24,
      -0,
      65504,
      Infinity,
      -Infinity,
      NaN,
    ])
  })

  it('reads Q4_0: low nibbles first, less eight, times the scale', ({ expect }) => {
    const nibbles = Array.from({ length: 16 }, (_, j) => j | ((15 - j) << 4))
    const values = dequantise('Q4_0', Uint8Array.from([...HALF, ...nibbles]), 32)
    const expected = Array.from(
      { length: 32 },
      (_, i) => (i < 16 ? i - 8 : 15 - (i - 16) - 8) * 0.5,
    )
    expect([...values]).toEqual(expected)
  })

  it('reads Q4_1: nibble times the scale plus the minimum', ({ expect }) => {
    const nibbles = Array.from({ length: 16 }, (_, j) => j | ((15 - j) << 4))
    const block = Uint8Array.from([...ONE_AND_A_HALF, ...MINUS_A_QUARTER, ...nibbles])
    const expected = Array.from({ length: 32 }, (_, i) => (i < 16 ? i : 31 - i) * 1.5 - 0.25)
    expect([...dequantise('Q4_1', block, 32)]).toEqual(expected)
  })

  it('reads Q8_0: signed bytes times the scale, block by block', ({ expect }) => {
    const first = Array.from({ length: 32 }, (_, i) => (i - 16) & 0xff)
    const second = Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? 127 : -128) & 0xff)
    const bytes = Uint8Array.from([...HALF, ...first, ...MINUS_A_QUARTER, ...second])
    const values = [...dequantise('Q8_0', bytes, 64)]
    expect(values.slice(0, 32)).toEqual(Array.from({ length: 32 }, (_, i) => (i - 16) * 0.5))
    expect(values.slice(32, 34)).toEqual([127 * -0.25, -128 * -0.25])
  })

  it.for(Object.entries(FIXTURE.types) as [TensorType, { blocks: string; values: string }][])(
    'reads random blocks of %s to the numbers of the gguf package',
    ([type, { blocks, values }], { expect }) => {
      const expected = new Float32Array(Uint8Array.from(Buffer.from(values, 'base64')).buffer)
      const decoded = dequantise(type, Buffer.from(blocks, 'base64'), expected.length)
      // Adding 0 makes one zero of both: the package's order of products leaves other signs on it.
      expect(decoded.map((value) => value + 0)).toEqual(expected.map((value) => value + 0))
    },
  )

  it('refuses bytes that are not the elements, and elements that are not blocks', ({ expect }) => {
    expect(() => dequantise('Q8_0', new Uint8Array(33), 32)).toThrow(/34 bytes; given 33/)
    expect(() => dequantise('Q4_0', new Uint8Array(18), 31)).toThrow(RangeError)
  })
})
