import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { FAMILIES } from '../../../../gpu-runner/model/families/index.ts'
import {
  checkTensorNames,
  decodeModelConfig,
  dequantise,
  GgufError,
  openGguf,
} from '../../../../gpu-runner/model/gguf/index.ts'
import { writeGguf, type GgufValue, type WrittenTensor } from '../../../fixtures/gguf-writer.ts'
import { modelPath } from '../../../fixtures/model.ts'

const LLAMA: Readonly<Record<string, GgufValue>> = {
  'general.architecture': { type: 'string', value: 'llama' },
  'llama.block_count': { type: 'u32', value: 2 },
  'llama.embedding_length': { type: 'u32', value: 32 },
  'llama.feed_forward_length': { type: 'u32', value: 64 },
  'llama.attention.head_count': { type: 'u32', value: 4 },
  'llama.attention.head_count_kv': { type: 'u32', value: 2 },
  'llama.context_length': { type: 'u32', value: 128 },
  'llama.vocab_size': { type: 'u32', value: 16 },
  'llama.attention.layer_norm_rms_epsilon': { type: 'f32', value: 1e-5 },
}
const NORM: WrittenTensor = {
  name: 'norm',
  type: 0,
  dims: [3],
  bytes: new Uint8Array(new Float32Array([1, 2, 3]).buffer),
}
const MATRIX: WrittenTensor = {
  name: 'matrix',
  type: 8,
  dims: [32, 2],
  bytes: Uint8Array.from({ length: 68 }, (_, i) => i),
}

let dir = ''
let numFiles = 0
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'arcana-gguf-'))
})
afterAll(async () => {
  await rm(dir, { recursive: true, force: true })
})

async function save(bytes: Uint8Array): Promise<string> {
  const path = join(dir, `${numFiles++}.gguf`)
  await writeFile(path, bytes)
  return path
}

describe('openGguf', () => {
  it('reads metadata, dims in row-major order, and tensors exactly', async ({ expect }) => {
    const file = await openGguf(await save(writeGguf(LLAMA, [NORM, MATRIX])))
    expect(
      [...file.tensors.values()].map(({ name, type, dims }) => ({ name, type, dims })),
    ).toEqual([
      { name: 'norm', type: 'F32', dims: [3] },
      { name: 'matrix', type: 'Q8_0', dims: [2, 32] },
    ])
    expect(await file.readTensor('norm')).toEqual(NORM.bytes)
    expect(await file.readTensor('matrix')).toEqual(MATRIX.bytes)
    await expect(file.readTensor('absent')).rejects.toThrow('the file has no tensor absent')
    expect(file.metadata.number('llama.block_count')).toBe(2)
    expect(() => file.metadata.string('llama.block_count')).toThrow(GgufError)
    expect(() => file.metadata.number('absent')).toThrow('metadata absent is missing')
    await file.close()
  })

  it('keeps byte order marks that strings begin with', async ({ expect }) => {
    const marked = ['\ufeff//', '//', 'a\ufeff', '\ufeff\ufeff', '']
    const file = await openGguf(
      await save(
        writeGguf(
          {
            ...LLAMA,
            flag: { type: 'bool', value: true },
            scores: { type: 'f32s', value: [1, 2, 3] },
            tokens: { type: 'strings', value: marked },
            name: { type: 'string', value: '\ufeffx' },
          },
          [NORM],
        ),
      ),
    )
    await file.close()
    expect(file.metadata.strings('tokens')).toEqual(marked)
    expect(file.metadata.string('name')).toBe('\ufeffx')
    expect(file.metadata.boolean('flag')).toBe(true)
    expect(file.metadata.numbers('scores')).toEqual([1, 2, 3])
  })

  it('refuses a tensor type by name', async ({ expect }) => {
    const path = await save(writeGguf(LLAMA, [{ ...NORM, type: 10, dims: [256] }]))
    await expect(openGguf(path)).rejects.toThrow(/tensor norm is of type Q2_K/)
    const unknown = await save(writeGguf(LLAMA, [{ ...NORM, type: 999 }]))
    await expect(openGguf(unknown)).rejects.toThrow(GgufError)
  })

  it('refuses rows that end inside a block, absurd shapes and repeated names', async ({
    expect,
  }) => {
    const rows = await save(writeGguf(LLAMA, [{ ...MATRIX, dims: [16, 4] }]))
    await expect(openGguf(rows)).rejects.toThrow(/rows of 16 are not whole Q8_0 blocks/)
    const huge = await save(writeGguf(LLAMA, [{ ...NORM, dims: [2 ** 31, 2 ** 31] }]))
    await expect(openGguf(huge)).rejects.toThrow(GgufError)
    const empty = await save(writeGguf(LLAMA, [{ ...NORM, dims: [0] }]))
    await expect(openGguf(empty)).rejects.toThrow(GgufError)
    const twice = await save(writeGguf(LLAMA, [NORM, NORM]))
    await expect(openGguf(twice)).rejects.toThrow('tensor norm appears twice')
  })

  it('refuses every truncation of a file', async ({ expect }) => {
    const whole = writeGguf(LLAMA, [NORM, MATRIX])
    // The bytes after the last tensor are padding.
    const needed = whole.length - 28
    for (let length = 0; length < needed; length += 7) {
      const path = await save(whole.subarray(0, length))
      await expect(openGguf(path), `cut to ${length} bytes`).rejects.toThrow(GgufError)
    }
  })

  it('answers damaged bytes with an error or a readable file', async ({ expect }) => {
    const whole = writeGguf(LLAMA, [NORM, MATRIX])
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        async (edits) => {
          const bytes = Uint8Array.from(whole)
          for (const [index, value] of edits) bytes[index] = value
          const path = await save(bytes)
          try {
            const file = await openGguf(path)
            for (const { name, sizeBytes } of file.tensors.values()) {
              expect((await file.readTensor(name)).length).toBe(sizeBytes)
            }
            await file.close()
          } catch (error) {
            expect(error).toBeInstanceOf(GgufError)
          } finally {
            await rm(path)
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  it('reports a missing file as such', async ({ expect }) => {
    await expect(openGguf(join(dir, 'absent.gguf'))).rejects.toThrow(/ENOENT/)
  })
})

describe('decodeModelConfig', () => {
  const decode = async (changes: Record<string, GgufValue>) => {
    const file = await openGguf(await save(writeGguf({ ...LLAMA, ...changes }, [NORM])))
    await file.close()
    return decodeModelConfig(file.metadata)
  }

  it('reads a llama configuration and derives absent values', async ({ expect }) => {
    expect(await decode({})).toEqual({
      family: FAMILIES.get('llama'),
      numLayers: 2,
      hidden: 32,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 8,
      ffn: 64,
      vocab: 16,
      ropeBase: 10_000,
      ropeScale: 1,
      slidingWindow: null,
      attentionScale: 8 ** -0.5,
      logitSoftcap: null,
      rmsEps: Math.fround(1e-5),
      contextLength: 128,
    })
  })

  it('refuses unsupported features by name', async ({ expect }) => {
    const u32 = (value: number): GgufValue => ({ type: 'u32', value })
    const mamba: GgufValue = { type: 'string', value: 'mamba' }
    await expect(decode({ 'general.architecture': mamba })).rejects.toThrow(
      /mamba is not served; llama, qwen2, qwen3, gemma3 are/,
    )
    await expect(decode({ 'llama.attention.sliding_window': u32(64) })).rejects.toThrow(/window/)
    await expect(decode({ 'llama.attn_logit_softcapping': u32(50) })).rejects.toThrow(/soft cap/)
    await expect(decode({ 'llama.attention.head_count_kv': u32(3) })).rejects.toThrow(/evenly/)
    await expect(decode({ 'llama.attention.head_count': u32(5) })).rejects.toThrow(GgufError)
    await expect(decode({ 'llama.rope.dimension_count': u32(4) })).rejects.toThrow(/rope over 4/)
    await expect(decode({ 'llama.block_count': u32(0) })).rejects.toThrow(/block_count is 0/)
    await expect(decode({ 'llama.expert_count': u32(8) })).rejects.toThrow(/experts/)
    const yarn: GgufValue = { type: 'string', value: 'yarn' }
    await expect(decode({ 'llama.rope.scaling.type': yarn })).rejects.toThrow(/yarn/)
  })
})

describe('checkTensorNames', () => {
  it('refuses a tensor that the graph would ignore', async ({ expect }) => {
    const file = await openGguf(await save(writeGguf(LLAMA, [NORM])))
    await file.close()
    const config = decodeModelConfig(file.metadata)
    checkTensorNames(config, ['token_embd.weight', 'blk.1.attn_q.weight'])
    for (const name of ['rope_freqs.weight', 'blk.0.attn_q.bias', 'blk.2.attn_q.weight']) {
      expect(() => {
        checkTensorNames(config, [name])
      }).toThrow(`tensor ${name} has no place`)
    }
  })
})

describe('the real model', () => {
  it('has the shapes of SmolLM2-135M', async ({ expect }) => {
    const file = await openGguf(await modelPath())
    expect(decodeModelConfig(file.metadata)).toEqual({
      family: FAMILIES.get('llama'),
      numLayers: 30,
      hidden: 576,
      numHeads: 9,
      numKvHeads: 3,
      headDim: 64,
      ffn: 1536,
      vocab: 49_152,
      ropeBase: 100_000,
      ropeScale: 1,
      slidingWindow: null,
      attentionScale: 1 / 8,
      logitSoftcap: null,
      rmsEps: Math.fround(1e-5),
      contextLength: 8192,
    })
    expect(file.tensors.size).toBe(272)
    await file.close()
  })

  // Digests of float32 values by Python's gguf 0.19.0 (gguf.quants.dequantize) over the same file.
  it.for([
    ['token_embd.weight', '3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa'],
    ['blk.0.attn_k.weight', '29614b1cceeca5d59dc07bcd5666f4c7a2ec661c1be425905f2d1b9aa7358073'],
    ['blk.29.ffn_down.weight', 'c19605745425a11e704e305ce3d27b632c406195d39eb3377e9cfb140ac643d1'],
    ['blk.3.attn_norm.weight', '11ec201074ec4d984bdbe38fef5250c73cc3fa525fa41bef3ee2b17bbcf6bbc9'],
  ] as const)(
    'decodes %s to the very bits of the gguf package',
    async ([name, digest], { expect }) => {
      const file = await openGguf(await modelPath())
      const { type, dims } = file.tensors.get(name)!
      const numElements = dims.reduce((product, dim) => product * dim, 1)
      const values = dequantise(type, await file.readTensor(name), numElements)
      await file.close()
      const hash = createHash('sha256').update(new Uint8Array(values.buffer))
      expect(hash.digest('hex')).toBe(digest)
    },
  )
})
