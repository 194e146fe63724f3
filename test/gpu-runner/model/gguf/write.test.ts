import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { GgufError, openGguf } from '../../../../gpu-runner/model/gguf/index.ts'
import { layOutGguf, rawEntry, readRawEntries } from '../../../../gpu-runner/model/gguf/write.ts'
import { writeGguf } from '../../../fixtures/gguf-writer.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-gguf-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const SOURCE = writeGguf(
  {
    'general.architecture': { type: 'string', value: 'llama' },
    'general.file_type': { type: 'u32', value: 3 },
    'llama.eps': { type: 'f32', value: 1e-5 },
    'tokenizer.tokens': { type: 'strings', value: ['a', '', 'ünïcödé', '\u0000'] },
    'tokenizer.types': { type: 'i32s', value: [1, 2, 3] },
  },
  [],
)

describe('raw metadata entries', () => {
  it('written again after a change have the same bytes except for the change', async ({
    expect,
  }) => {
    const entries = readRawEntries(SOURCE)
    expect(entries.map(({ key }) => key)).toEqual([
      'general.architecture',
      'general.file_type',
      'llama.eps',
      'tokenizer.tokens',
      'tokenizer.types',
    ])
    expect(layOutGguf(entries, []).header).toEqual(new Uint8Array(SOURCE))
    const changed = entries.map((entry) =>
      entry.key === 'general.file_type' ? rawEntry(entry.key, 1) : entry,
    )
    const tensors = [
      { name: 'x', ggmlId: 0, dims: [2, 3], sizeBytes: 24 },
      { name: 'y', ggmlId: 1, dims: [5], sizeBytes: 10 },
    ]
    const { header, offsets, totalBytes } = layOutGguf(
      [...changed, rawEntry('own.key', 'ß')],
      tensors,
    )
    expect(offsets).toEqual([header.length, header.length + 32])
    const bytes = new Uint8Array(totalBytes)
    bytes.set(header)
    new DataView(bytes.buffer).setFloat32(offsets[0]!, 0.5, true)
    const path = join(folder, 'written.gguf')
    await writeFile(path, bytes)
    const file = await openGguf(path)
    expect(file.metadata.number('general.file_type')).toBe(1)
    expect(file.metadata.string('own.key')).toBe('ß')
    expect(file.metadata.strings('tokenizer.tokens')).toEqual(['a', '', 'ünïcödé', '\u0000'])
    expect([...file.tensors.values()].map(({ name, dims, type }) => [name, dims, type])).toEqual([
      ['x', [2, 3], 'F32'],
      ['y', [5], 'F16'],
    ])
    expect(new Float32Array((await file.readTensor('x')).slice().buffer)[0]).toBe(0.5)
    await file.close()
  })

  it('in a truncated or empty file are an error', ({ expect }) => {
    for (let length = 0; length < SOURCE.length - 32; length++) {
      expect(() => readRawEntries(SOURCE.subarray(0, length))).toThrow(GgufError)
    }
    expect(() => readRawEntries(new Uint8Array(64))).toThrow(/not a GGUF/)
    const old = new Uint8Array(SOURCE)
    old[4] = 1
    expect(() => readRawEntries(old)).toThrow(/version 1/)
  })
})
