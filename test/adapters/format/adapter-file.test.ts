import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  type AdapterFile,
  decodeAdapter,
  digestOf,
  encodeAdapter,
  MAX_ADAPTER_BYTES,
} from '../../../adapters/format/adapter-file.ts'
import { fromFloat16Bits, toFloat16Bits } from '../../../adapters/format/float16.ts'
import { MAX_ABS_ANGLE, MAX_HEADER_BYTES } from '../../../adapters/format/limits.ts'
import { type Geometry, touchedLayers } from '../../../adapters/rotation/rotation.ts'
import { geometry, rotations } from '../arbitraries.ts'

const MODEL_DIGEST = '5f'.repeat(32)
const METADATA = {
  format: 'arcana-rotation',
  format_version: '1',
  model_digest: MODEL_DIGEST,
  scope: 'generated',
}
const files: fc.Arbitrary<AdapterFile> = fc.record({
  modelDigest: fc.constant(MODEL_DIGEST),
  scope: fc.constantFrom('generated', 'all'),
  rotation: rotations,
  dtype: fc.constantFrom('F16', 'F32'),
})

/** A file with any header and any data, valid or not. */
function fileOf(header: unknown, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const text = typeof header === 'string' ? header : JSON.stringify(header)
  const json = new TextEncoder().encode(text)
  const bytes = new Uint8Array(8 + json.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
  bytes.set(json, 8)
  bytes.set(data, 8 + json.length)
  return bytes
}

const tensor = (begin: number, end: number, more: object = {}): object => ({
  dtype: 'F32',
  shape: [3, 2],
  data_offsets: [begin, end],
  ...more,
})

function reasonOf(bytes: Uint8Array, model?: Geometry): string {
  const result = decodeAdapter(bytes, model)
  return result.ok ? 'ok' : result.error.reason
}

describe('the adapter codec', () => {
  it('reads the written values, rounded to the dtype', ({ expect }) => {
    fc.assert(
      fc.property(files, (file) => {
        const result = decodeAdapter(encodeAdapter(file), geometry)
        if (!result.ok) throw new Error(result.error.message)
        expect(result.value.modelDigest).toBe(file.modelDigest)
        expect(result.value.scope).toBe(file.scope)
        for (const [layer, { angles, logScale }] of file.rotation.layers) {
          const round = (value: number): number =>
            (file.dtype === 'F32' ? value : fromFloat16Bits(toFloat16Bits(value))) + 0
          const read = result.value.rotation.layers.get(layer)
          const zeros = new Float32Array(angles.length)
          expect(read?.angles ?? zeros).toEqual(angles.map(round))
          expect(read?.logScale ?? zeros).toEqual((logScale ?? zeros).map(round))
        }
      }),
    )
  })

  it('is canonical: reading and writing again gives the same bytes', ({ expect }) => {
    fc.assert(
      fc.property(files, (file) => {
        const bytes = encodeAdapter(file)
        for (const model of [geometry, undefined]) {
          const result = decodeAdapter(bytes, model)
          if (!result.ok) throw new Error(result.error.message)
          expect(encodeAdapter(result.value)).toEqual(bytes)
        }
      }),
    )
  })

  it('does not depend on the order in which layers were set', ({ expect }) => {
    fc.assert(
      fc.property(files, (file) => {
        const layers = new Map([...file.rotation.layers].reverse())
        const reversed = { ...file, rotation: { ...file.rotation, layers } }
        expect(encodeAdapter(reversed)).toEqual(encodeAdapter(file))
      }),
    )
  })

  it('omits layers that are zero, or that float16 rounds to zero', ({ expect }) => {
    const tiny = new Float32Array(6).fill(2 ** -26)
    const layers = new Map([
      [0, { angles: tiny, logScale: tiny }],
      [2, { angles: tiny.map(() => 0.5), logScale: tiny }],
    ])
    const rotation = { geometry, layers }
    const file: AdapterFile = { modelDigest: MODEL_DIGEST, scope: 'all', rotation, dtype: 'F16' }
    const result = decodeAdapter(encodeAdapter(file), geometry)
    if (!result.ok) throw new Error(result.error.message)
    expect(touchedLayers(result.value.rotation)).toEqual([2])
    expect(result.value.rotation.layers.get(2)!.logScale).toBeUndefined()
  })

  it('writes a header that any safetensors reader finds: little-endian length, aligned data', ({
    expect,
  }) => {
    const layers = new Map([[3, { angles: new Float32Array(6).fill(0.25) }]])
    const rotation = { geometry, layers }
    const bytes = encodeAdapter({ modelDigest: MODEL_DIGEST, scope: 'all', rotation, dtype: 'F32' })
    const view = new DataView(bytes.buffer)
    const headerLen = Number(view.getBigUint64(0, true))
    expect(headerLen % 8).toBe(0)
    expect(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLen)))).toEqual({
      __metadata__: { ...METADATA, scope: 'all' },
      'angles.3': { dtype: 'F32', shape: [3, 2], data_offsets: [0, 24] },
    })
    expect(bytes.length).toBe(8 + headerLen + 24)
    expect(view.getFloat32(8 + headerLen, true)).toBe(0.25)
  })

  it('refuses to write a file that it would refuse to read', ({ expect }) => {
    const write = (layer: number, value: number, modelDigest = MODEL_DIGEST): (() => unknown) => {
      const layers = new Map([[layer, { angles: new Float32Array(6).fill(value) }]])
      const rotation = { geometry, layers }
      return () => encodeAdapter({ modelDigest, scope: 'all', rotation, dtype: 'F16' })
    }
    expect(write(0, MAX_ABS_ANGLE)).not.toThrow()
    expect(write(0, MAX_ABS_ANGLE + 0.01)).toThrow(RangeError)
    expect(write(0, NaN)).toThrow(RangeError)
    expect(write(4, 1)).toThrow(/layer 4/)
    expect(write(0, 1, 'ABC')).toThrow(/SHA-256/)
  })
})

describe('decoding files from other writers', () => {
  it('accepts any header order, white space and data order', ({ expect }) => {
    const data = new Uint8Array(48)
    new DataView(data.buffer).setFloat32(0, 1.5, true)
    new DataView(data.buffer).setFloat32(24, 2.5, true)
    const header = {
      'angles.10': tensor(0, 24),
      'angles.2': tensor(24, 48),
      __metadata__: Object.fromEntries(Object.entries(METADATA).reverse()),
    }
    const result = decodeAdapter(fileOf(JSON.stringify(header, null, 2) + '   ', data))
    if (!result.ok) throw new Error(result.error.message)
    expect([...result.value.rotation.layers.keys()]).toEqual([2, 10])
    expect(result.value.rotation.layers.get(10)!.angles[0]).toBe(1.5)
    expect(result.value.rotation.layers.get(2)!.angles[0]).toBe(2.5)
    expect(result.value.rotation.geometry).toEqual({ numLayers: 11, numHeads: 3, headDim: 4 })
  })

  it('reads a view that begins at an odd byte of its buffer', ({ expect }) => {
    const layers = new Map([[1, { angles: Float32Array.of(1, 2, 3, 4, 5, 6) }]])
    const rotation = { geometry, layers }
    const bytes = encodeAdapter({ modelDigest: MODEL_DIGEST, scope: 'all', rotation, dtype: 'F32' })
    const padded = new Uint8Array(bytes.length + 3)
    padded.set(bytes, 3)
    const result = decodeAdapter(padded.subarray(3), geometry)
    expect(result.ok && result.value.rotation).toEqual(rotation)
  })

  it('reads a file without tensors as the identity', ({ expect }) => {
    const result = decodeAdapter(fileOf({ __metadata__: METADATA }), geometry)
    expect(result.ok && result.value.rotation).toEqual({ geometry, layers: new Map() })
  })

  it('refuses a file with another model’s shape', ({ expect }) => {
    const bytes = fileOf({ __metadata__: METADATA, 'angles.3': tensor(0, 24) }, new Uint8Array(24))
    expect(reasonOf(bytes, geometry)).toBe('ok')
    expect(reasonOf(bytes, { ...geometry, numLayers: 3 })).toBe('wrong_geometry')
    expect(reasonOf(bytes, { ...geometry, numHeads: 6 })).toBe('wrong_geometry')
    expect(reasonOf(bytes, { ...geometry, headDim: 8 })).toBe('wrong_geometry')
  })
})

describe('hostile files', () => {
  const meta = (more: object): object => ({ __metadata__: { ...METADATA, ...more } })
  const withTensors = (tensors: object): object => ({ __metadata__: METADATA, ...tensors })
  const floats = (...values: number[]): Uint8Array =>
    new Uint8Array(Float32Array.from(values).buffer)
  const text = JSON.stringify({ __metadata__: METADATA })
  const longLength = fileOf(text)
  new DataView(longLength.buffer).setBigUint64(0, 2n ** 63n, true)
  const cases: readonly (readonly [string, string, Uint8Array])[] = [
    ['no bytes', 'truncated', new Uint8Array(0)],
    ['seven bytes', 'truncated', new Uint8Array(7)],
    ['a header past the file', 'truncated', fileOf(text).subarray(0, 40)],
    ['a header length of 2^63', 'bad_header', longLength],
    ['a header past its limit', 'bad_header', fileOf(text.padEnd(MAX_HEADER_BYTES + 1))],
    ['an empty header', 'bad_header', fileOf('')],
    ['white space before the header', 'bad_header', fileOf(` ${text}`)],
    ['a byte order mark', 'bad_header', fileOf(`\ufeff${text}`)],
    ['two values', 'bad_header', fileOf(`${text}{}`)],
    ['a trailing comma', 'bad_header', fileOf('{"a":1,}')],
    ['a fraction', 'bad_header', fileOf('{"a":1.5}')],
    ['a number past 2^53', 'bad_header', fileOf('{"a":9007199254740993}')],
    ['a leading zero', 'bad_header', fileOf('{"a":01}')],
    ['null', 'bad_header', fileOf('{"a":null}')],
    ['deep nesting', 'bad_header', fileOf('{"a":'.repeat(50_000))],
    ['an unclosed string', 'bad_header', fileOf(`{"${'a'.repeat(1_000_000)}`)],
    ['a string ending in a backslash', 'bad_header', fileOf('{"a\\')],
    ['a repeated key', 'bad_header', fileOf(text.replace('}}', '},"angles.0":1,"angles.0":1}'))],
    ['a key repeated by escapes', 'bad_header', fileOf('{"a":1,"\\u0061":1}')],
    ['a prototype', 'bad_tensor', fileOf(text.replace('}}', '},"__proto__":{"angles.0":{}}}'))],
    [
      'metadata of a prototype',
      'bad_metadata',
      fileOf(text.replace('{"format"', '{"__proto__":1,"format"')),
    ],
    ['no metadata', 'bad_metadata', fileOf({ 'angles.0': tensor(0, 24) }, new Uint8Array(24))],
    ['another format', 'bad_metadata', fileOf(meta({ format: 'pt' }))],
    ['a later version', 'unsupported_version', fileOf(meta({ format_version: '2', extra: 'x' }))],
    ['unknown metadata', 'bad_metadata', fileOf(meta({ extra: 'x' }))],
    ['an upper-case digest', 'bad_metadata', fileOf(meta({ model_digest: 'AB'.repeat(32) }))],
    ['a numeric scope', 'bad_metadata', fileOf(meta({ scope: 1 }))],
    ['an unknown tensor', 'bad_tensor', fileOf(withTensors({ weight: tensor(0, 24) }))],
    [
      'a layer with a leading zero',
      'bad_tensor',
      fileOf(withTensors({ 'angles.00': tensor(0, 24) })),
    ],
    ['a negative layer', 'bad_tensor', fileOf(withTensors({ 'angles.-1': tensor(0, 24) }))],
    ['layer 1024', 'bad_tensor', fileOf(withTensors({ 'angles.1024': tensor(0, 24) }))],
    [
      'bfloat16',
      'bad_tensor',
      fileOf(withTensors({ 'angles.0': tensor(0, 24, { dtype: 'BF16' }) })),
    ],
    ['an extra key', 'bad_tensor', fileOf(withTensors({ 'angles.0': tensor(0, 24, { x: 1 }) }))],
    [
      'three dimensions',
      'bad_tensor',
      fileOf(withTensors({ 'angles.0': tensor(0, 24, { shape: [3, 2, 1] }) })),
    ],
    [
      'no heads',
      'bad_tensor',
      fileOf(withTensors({ 'angles.0': tensor(0, 0, { shape: [0, 2] }) })),
    ],
    [
      'a huge shape',
      'bad_tensor',
      fileOf(withTensors({ 'angles.0': tensor(0, 24, { shape: [9007199254740991, 2] }) })),
    ],
    ['offsets reversed', 'bad_tensor', fileOf(withTensors({ 'angles.0': tensor(24, 0) }))],
    [
      'offsets short of the shape',
      'bad_tensor',
      fileOf(withTensors({ 'angles.0': tensor(0, 20) })),
    ],
    [
      'scales alone',
      'bad_tensor',
      fileOf(withTensors({ 'log_scale.0': tensor(0, 24) }), new Uint8Array(24)),
    ],
    [
      'two shapes',
      'bad_tensor',
      fileOf(
        withTensors({ 'angles.0': tensor(0, 24), 'angles.1': tensor(24, 48, { shape: [2, 3] }) }),
        new Uint8Array(48),
      ),
    ],
    [
      'two dtypes',
      'bad_tensor',
      fileOf(
        withTensors({ 'angles.0': tensor(0, 24), 'angles.1': tensor(24, 36, { dtype: 'F16' }) }),
        new Uint8Array(36),
      ),
    ],
    [
      'an overlap',
      'bad_layout',
      fileOf(
        withTensors({ 'angles.0': tensor(0, 24), 'angles.1': tensor(0, 24) }),
        new Uint8Array(24),
      ),
    ],
    ['a gap', 'bad_layout', fileOf(withTensors({ 'angles.0': tensor(8, 32) }), new Uint8Array(32))],
    [
      'data left over',
      'bad_layout',
      fileOf(withTensors({ 'angles.0': tensor(0, 24) }), new Uint8Array(25)),
    ],
    [
      'data missing',
      'truncated',
      fileOf(withTensors({ 'angles.0': tensor(0, 24) }), new Uint8Array(23)),
    ],
    [
      'not a number',
      'bad_value',
      fileOf(withTensors({ 'angles.0': tensor(0, 24) }), floats(0, 0, NaN, 0, 0, 0)),
    ],
    [
      'an infinity',
      'bad_value',
      fileOf(withTensors({ 'angles.0': tensor(0, 24) }), floats(0, 0, -Infinity, 0, 0, 0)),
    ],
    [
      'a large angle',
      'bad_value',
      fileOf(withTensors({ 'angles.0': tensor(0, 24) }), floats(0, 0, 64.1, 0, 0, 0)),
    ],
    [
      'a large scale',
      'bad_value',
      fileOf(
        withTensors({ 'angles.0': tensor(0, 24), 'log_scale.0': tensor(24, 48) }),
        floats(0, 0, 0, 0, 0, 0, 0, 0, 0, 4.1, 0, 0),
      ),
    ],
    ['too many bytes', 'too_large', new Uint8Array(MAX_ADAPTER_BYTES + 1)],
  ]
  it.for(cases)('are refused with the right reason: %s', ([, reason, bytes], { expect }) => {
    expect(reasonOf(bytes)).toBe(reason)
    expect(reasonOf(bytes, geometry)).toBe(reason)
  })

  it('are refused when they are not UTF-8', ({ expect }) => {
    const bytes = fileOf(text)
    bytes[20] = 0xff
    expect(reasonOf(bytes)).toBe('bad_header')
  })

  it('never throw, whichever bytes are cut off or overwritten', ({ expect }) => {
    const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(files, edits, fc.option(fc.nat()), (file, changes, cut) => {
        const whole = encodeAdapter(file)
        const bytes = cut === null ? whole : whole.slice(0, cut % whole.length)
        for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value
        const result = decodeAdapter(bytes)
        // If the file still decodes, it can be encoded and decodes to the same content.
        if (result.ok) expect(decodeAdapter(encodeAdapter(result.value)).ok).toBe(true)
        else expect(result.error.message.length).toBeLessThan(300)
      }),
      { numRuns: 2000 },
    )
  })

  it('never throw on arbitrary bytes behind a plausible length', ({ expect }) => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.string({ unit: 'binary' }),
        (tail, text) => {
          expect(reasonOf(tail)).not.toBe('ok')
          expect(reasonOf(fileOf(text, tail))).not.toBe('ok')
          expect(reasonOf(fileOf(`{${text}}`, tail))).not.toBe('ok')
        },
      ),
    )
  })
})

describe('digestOf', () => {
  it('is SHA-256 in lower-case hex', async ({ expect }) => {
    expect(await digestOf(new TextEncoder().encode('abc'))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    )
  })
})
