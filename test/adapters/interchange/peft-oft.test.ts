import fc from 'fast-check'
import { describe, it } from 'vitest'
import type { AdapterFile } from '../../../adapters/format/adapter-file.ts'
import {
  angleOfCayley,
  cayleyOfAngle,
  exportPeftOft,
  importPeftOft,
  type PeftFiles,
} from '../../../adapters/interchange/peft-oft.ts'
import { readFloatTensors, writeFloatTensors } from '../../../adapters/interchange/safetensors.ts'
import type { LayerRotation } from '../../../adapters/rotation/rotation.ts'

const geometry = { numLayers: 3, numHeads: 2, headDim: 4 }
const modelDigest = 'a'.repeat(64)
const BASE = 'some/base'

function adapter(
  layers: readonly (readonly [number, LayerRotation])[],
  scope: 'all' | 'generated' = 'all',
): AdapterFile {
  return { modelDigest, scope, dtype: 'F32', rotation: { geometry, layers: new Map(layers) } }
}
const angles = (...values: number[]): LayerRotation => ({ angles: Float32Array.from(values) })

function exported(file: AdapterFile): PeftFiles {
  const result = exportPeftOft(file, BASE)
  if (!result.ok) throw new Error(result.error.message)
  return result.value
}
const withConfig = (files: PeftFiles, changes: Record<string, unknown>): PeftFiles => {
  const config = JSON.parse(new TextDecoder().decode(files.config)) as Record<string, unknown>
  return { ...files, config: new TextEncoder().encode(JSON.stringify({ ...config, ...changes })) }
}

describe("PEFT's OFT", () => {
  it('is written as block size 2 on o_proj of the touched layers', ({ expect }) => {
    const files = exported(
      adapter([
        [2, angles(0.5, -0.5, 0, 1)],
        [0, angles(1, 2, 3, -3)],
      ]),
    )
    expect(JSON.parse(new TextDecoder().decode(files.config))).toMatchObject({
      peft_type: 'OFT',
      base_model_name_or_path: BASE,
      r: 0,
      oft_block_size: 2,
      use_cayley_neumann: false,
      coft: false,
      block_share: false,
      target_modules: ['o_proj'],
      layers_to_transform: [0, 2],
    })
    const read = readFloatTensors(files.weights)
    if ('fault' in read) throw new Error(read.fault)
    expect(read.metadata.get('format')).toBe('pt')
    const name = (layer: number) =>
      `base_model.model.model.layers.${layer}.self_attn.o_proj.oft_R.weight`
    expect(read.tensors.map((tensor) => [tensor.name, tensor.dims])).toEqual([
      [name(0), [4, 1]],
      [name(2), [4, 1]],
    ])
    expect(read.tensors[1]!.values[0]).toBe(Math.fround(-Math.tan(0.25)))
    // Data that readers may map in place.
    expect(Number(new DataView(files.weights.buffer).getBigUint64(0, true)) % 8).toBe(0)
  })

  it('computes the same 2×2 block as the rotation', ({ expect }) => {
    // PEFT's R = (I − Q)(I + Q)⁻¹ in closed form, applied to a row vector from the right.
    fc.assert(
      fc.property(fc.double({ min: -3.14, max: 3.14, noNaN: true }), (theta) => {
        const q = cayleyOfAngle(theta)!
        const size = 1 + q * q
        const [r00, r01] = [(1 - q * q) / size, (-2 * q) / size]
        const [r10, r11] = [(2 * q) / size, (1 - q * q) / size]
        const [x, y] = [0.7, -0.4]
        expect(x * r00 + y * r10).toBeCloseTo(x * Math.cos(theta) - y * Math.sin(theta), 12)
        expect(x * r01 + y * r11).toBeCloseTo(x * Math.sin(theta) + y * Math.cos(theta), 12)
      }),
    )
  })

  it('gives back the exported angles, modulo a turn', ({ expect }) => {
    const value = fc
      .float({ min: -60, max: 60, noNaN: true })
      .filter((angle) => cayleyOfAngle(angle) !== null)
    fc.assert(
      fc.property(fc.array(value, { minLength: 4, maxLength: 4 }), (given) => {
        const back = importPeftOft(exported(adapter([[1, angles(...given)]])), {
          modelDigest,
          geometry,
        })
        if (!back.ok) throw new Error(back.error.message)
        expect(back.value).toMatchObject({ modelDigest, scope: 'all', dtype: 'F32' })
        expect([...back.value.rotation.layers.keys()]).toEqual([1])
        const found = back.value.rotation.layers.get(1)!.angles
        found.forEach((angle, i) => {
          // q and the angle are each rounded to float32 once: at most 4e-7 for angles below π.
          expect(Math.abs(Math.sin((angle - given[i]!) / 2))).toBeLessThan(4e-7)
        })
      }),
    )
  })

  it('has no parameter for half a turn', ({ expect }) => {
    expect(cayleyOfAngle(Math.fround(Math.PI))).toBeNull()
    expect(cayleyOfAngle(-3 * Math.PI)).toBeNull()
    expect(cayleyOfAngle(2 * Math.PI)).toBeCloseTo(0)
    expect(angleOfCayley(0)).toBe(0)
    const result = exportPeftOft(adapter([[0, angles(0, 0, 0, Math.PI)]]), BASE)
    expect(result).toMatchObject({
      ok: false,
      error: {
        reason: 'not_expressible',
        message: expect.stringMatching(/pair 3 of layer 0.*half/) as string,
      },
    })
  })

  it('refuses adapters that it cannot express, with the reason', ({ expect }) => {
    const messageOf = (file: AdapterFile): string => {
      const result = exportPeftOft(file, BASE)
      return result.ok ? 'ok' : `${result.error.reason}: ${result.error.message}`
    }
    expect(messageOf(adapter([[0, angles(1, 1, 1, 1)]], 'generated'))).toMatch(
      /^not_expressible.*scope is "generated"/,
    )
    const scaled = { ...angles(1, 1, 1, 1), logScale: Float32Array.from([0, 0, 0.1, 0]) }
    expect(messageOf(adapter([[0, scaled]]))).toMatch(/layer 0 has log scales/)
    expect(messageOf(adapter([]))).toMatch(/rotates nothing/)
    const unit = { ...angles(1, 1, 1, 1), logScale: new Float32Array(4) }
    expect(messageOf(adapter([[0, unit]]))).toBe('ok')
  })

  const files = exported(adapter([[1, angles(0.1, 0.2, 0.3, 0.4)]]))
  const model = { modelDigest, geometry }
  const refusalOf = (changed: PeftFiles, of = model): string => {
    const result = importPeftOft(changed, of)
    return result.ok ? 'ok' : `${result.error.reason}: ${result.error.message}`
  }
  it.for([
    [{ peft_type: 'LORA' }, /peft_type/],
    [{ oft_block_size: 4 }, /oft_block_size/],
    [{ use_cayley_neumann: true }, /use_cayley_neumann/],
    [{ use_cayley_neumann: undefined }, /use_cayley_neumann/],
    [{ coft: true }, /coft/],
    [{ block_share: true }, /block_share/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out/],
    [{ bias: 'all' }, /bias/],
    [{ modules_to_save: ['lm_head'] }, /modules_to_save/],
  ] as const)('with %o is refused by name', ([changes, pattern], { expect }) => {
    expect(refusalOf(withConfig(files, changes))).toMatch(pattern)
  })

  it('may give the number of blocks instead of the block size', ({ expect }) => {
    expect(refusalOf(withConfig(files, { r: 4, oft_block_size: 0 }))).toBe('ok')
  })

  it('is refused with another module, shape or model, or if it is malformed', ({ expect }) => {
    const tensor = (name: string, dims: number[], fill = 0.1): PeftFiles => {
      const size = dims.reduce((a, b) => a * b, 1)
      const values = new Float32Array(size).fill(fill)
      return { ...files, weights: writeFloatTensors({ format: 'pt' }, [{ name, dims, values }]) }
    }
    const place = (layer: number | string, part = 'self_attn.o_proj.oft_R.weight') =>
      `base_model.model.model.layers.${layer}.${part}`
    expect(refusalOf(tensor(place(1), [4, 1]))).toBe('ok')
    expect(refusalOf(tensor(place(1, 'self_attn.q_proj.oft_R.weight'), [4, 1]))).toMatch(/q_proj/)
    expect(refusalOf(tensor(place('01'), [4, 1]))).toMatch(/unsupported_peft/)
    expect(refusalOf(tensor(place(3), [4, 1]))).toMatch(/^wrong_geometry/)
    expect(refusalOf(tensor(place(1), [6, 1]))).toMatch(/^wrong_geometry/)
    expect(refusalOf(tensor(place(1), [2, 6]))).toMatch(/shape \[2, 6\]/)
    expect(refusalOf(tensor(place(1), [4, 1], NaN))).toMatch(/not finite/)
    expect(refusalOf(files, { ...model, modelDigest: 'b'.repeat(64) })).toMatch(/learnt on/)
    expect(refusalOf({ ...files, config: new TextEncoder().encode('{') })).toMatch(/not JSON/)
    for (let length = 0; length < files.weights.length; length += 7) {
      expect(refusalOf({ ...files, weights: files.weights.subarray(0, length) })).toMatch(
        /^unsupported_peft/,
      )
    }
  })
})

describe('float tensors', () => {
  const file = (dtype: string, data: number[], size: number): Uint8Array => {
    const header = { x: { dtype, shape: [data.length / size], data_offsets: [0, data.length] } }
    const json = new TextEncoder().encode(JSON.stringify(header))
    const bytes = new Uint8Array(8 + json.length + data.length)
    new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true)
    bytes.set(json, 8)
    bytes.set(data, 8 + json.length)
    return bytes
  }
  it('in F16 and BF16 widen exactly', ({ expect }) => {
    const valuesOf = (bytes: Uint8Array) => {
      const read = readFloatTensors(bytes)
      return 'fault' in read ? read.fault : [...read.tensors[0]!.values]
    }
    expect(valuesOf(file('F16', [0x00, 0x3c, 0x00, 0xc0], 2))).toEqual([1, -2])
    expect(valuesOf(file('BF16', [0x80, 0x3f, 0x20, 0xc1], 2))).toEqual([1, -10])
    expect(valuesOf(file('I64', [0, 0, 0, 0, 0, 0, 0, 0], 8))).toMatch(/F32, F16, BF16/)
  })
  it('never throw, whatever the bytes', ({ expect }) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(readFloatTensors(bytes)).toHaveProperty('fault')
      }),
    )
  })
})
