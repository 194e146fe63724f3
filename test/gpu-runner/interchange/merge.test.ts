import { createHash } from 'node:crypto'
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { encodeAdapter, type AdapterScope } from '../../../adapters/format/adapter-file.ts'
import { openGguf } from '../../../gpu-runner/model/gguf/index.ts'
import { readRawEntries } from '../../../gpu-runner/model/gguf/write.ts'
import { MODEL_SHAPE } from '../../fixtures/adapter-bytes.ts'
import { largestDifference, scopeAllLogits } from '../../fixtures/logits.ts'
import { modelPath, TEST_CACHE_DIR } from '../../fixtures/model.ts'
import { MODEL_DIGEST, openTestRunner, randomRotation } from '../../fixtures/runner.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'

/**
 * Float32 rounding through thirty layers: the merged weights are rounded once more than the rotated
 * z would be, and the sums run otherwise. Measured 2.7e-5 for logits of size 20.
 */
const MAX_F32_DIFFERENCE = 3e-4
/** Weights rounded to 11 bits. Measured 0.014; the adapter itself moves logits by 3.9. */
const MAX_F16_DIFFERENCE = 0.05
const HEADER_BYTES = 8 * 2 ** 20

const TEXT =
  'The two neighbours agreed to reopen their land border after a decade, and the first buses'

const run = promisify(execFile)
/** The command as `npm run merge` runs it. */
const merge = (...args: string[]) =>
  run(process.execPath, ['gpu-runner/merge.ts', ...args], {
    env: { ...process.env, ARCANA_MODEL_CACHE: TEST_CACHE_DIR },
  }).then(
    ({ stdout }) => ({ status: 0, text: stdout }),
    (error: unknown) => {
      const { code, stderr } = error as { code: number; stderr: string }
      return { status: code, text: stderr }
    },
  )

let folder: string
let adapterFile: string
let served: { logits: Float32Array; tokens: readonly number[] }
let base: { logits: Float32Array; tokens: readonly number[] }
let ids: readonly number[]

const writeAdapter = async (
  name: string,
  rotation: ReturnType<typeof randomRotation>,
  scope: AdapterScope = 'all',
) => {
  const path = join(folder, name)
  const file = await open(path, 'w')
  await file.write(encodeAdapter({ modelDigest: MODEL_DIGEST, scope, rotation, dtype: 'F32' }))
  await file.close()
  return path
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-merge-'))
  const runner = await openTestRunner({ decodeFormat: 'float32' })
  const rotation = randomRotation(runner, 5, 0.4)
  // One layer has scales, which PEFT cannot express but weights can.
  const scaled = rotation.layers.get(7)!
  const layers = new Map(rotation.layers).set(7, {
    ...scaled,
    logScale: scaled.angles.map((angle) => angle / 2),
  })
  layers.delete(3)
  const adapter = { ...rotation, layers }
  adapterFile = await writeAdapter('adapter.safetensors', adapter)
  ids = runner.context.tokenizer.encode(TEXT)
  base = await scopeAllLogits(runner, ids)
  const slot = runner.context.slots.acquire('merged', () => adapter)
  served = await scopeAllLogits(runner, ids, slot)
  await runner.release()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function openMerged(path: string, name: string): Promise<Runner> {
  return openTestRunner({
    ggufPath: path,
    modelDigest: createHash('sha256').update(name).digest('hex'),
    buildDir: join(folder, 'builds'),
    decodeFormat: 'float32',
  })
}

describe('a merged model file', () => {
  it('in float32 has the logits of the served adapter', async ({ expect }) => {
    const out = join(folder, 'merged-f32.gguf')
    const done = await merge('--adapter', adapterFile, '--out', out)
    expect(done.text).toMatch(/with layers 0 1 2 4 .* 29 merged, f32/)
    const runner = await openMerged(out, 'f32')
    const { logits, tokens } = await scopeAllLogits(runner, ids)
    await runner.release()
    const difference = largestDifference(logits, served.logits)
    const effect = largestDifference(base.logits, served.logits)
    console.log(`float32: largest logit difference ${difference}; the adapter's effect ${effect}`)
    expect(difference).toBeLessThan(MAX_F32_DIFFERENCE)
    expect(effect).toBeGreaterThan(1)
    expect(tokens).toEqual(served.tokens)
    expect(tokens).not.toEqual(base.tokens)
    await rm(join(folder, 'builds'), { recursive: true })
  })

  it('keeps every metadata entry of the base, and names the adapter', async ({ expect }) => {
    const read = async (path: string) => {
      const file = await open(path)
      const bytes = new Uint8Array(HEADER_BYTES)
      await file.read(bytes, 0, bytes.length, 0)
      await file.close()
      const entries = readRawEntries(bytes)
      return new Map(entries.map(({ key, bytes: raw }) => [key, Buffer.from(raw).toString('hex')]))
    }
    const before = await read(await modelPath())
    const path = join(folder, 'merged-f32.gguf')
    const after = await read(path)
    const own = ['general.file_type', 'arcana.adapter_digest', 'arcana.base_model_digest']
    const untouched = (entries: Map<string, string>) =>
      [...entries].filter(([key]) => !own.includes(key))
    expect(untouched(after)).toEqual(untouched(before))
    expect(before.size).toBeGreaterThan(20)
    const file = await openGguf(path)
    const { metadata, tensors } = file
    expect(metadata.number('general.file_type')).toBe(0)
    expect(metadata.string('arcana.base_model_digest')).toBe(MODEL_DIGEST)
    expect(metadata.string('arcana.adapter_digest')).toBe(
      createHash('sha256')
        .update(await readFile(adapterFile))
        .digest('hex'),
    )
    expect([...tensors.values()].every(({ type }) => type === 'F32')).toBe(true)
    await file.close()
  })

  it('in float16 is near it, half as large, with norms in float32', async ({ expect }) => {
    const out = join(folder, 'merged-f16.gguf')
    const done = await merge('--adapter', adapterFile, '--out', out, '--dtype', 'f16')
    expect(done.status).toBe(0)
    const file = await openGguf(out)
    for (const { name, type, dims } of file.tensors.values()) {
      expect([name, type]).toEqual([name, dims.length === 1 ? 'F32' : 'F16'])
    }
    expect(file.metadata.number('general.file_type')).toBe(1)
    await file.close()
    const runner = await openMerged(out, 'f16')
    const { logits } = await scopeAllLogits(runner, ids)
    await runner.release()
    const difference = largestDifference(logits, served.logits)
    console.log(`float16: largest logit difference ${difference}`)
    expect(difference).toBeLessThan(MAX_F16_DIFFERENCE)
  })

  it('is refused by name, and leaves nothing', async ({ expect }) => {
    const before = await readdir(folder)
    const rotation = randomRotation(MODEL_SHAPE, 1, 0.1)
    const refusals: [string, string, RegExp][] = [
      [await writeAdapter('g', rotation, 'generated'), 'new.gguf', /scope "generated".*"all" only/],
      [adapterFile, 'merged-f16.gguf', /exists/],
      [await modelPath(), 'new.gguf', /allowed|header/],
    ]
    for (const [adapter, name, message] of refusals) {
      const { status, text } = await merge('--adapter', adapter, '--out', join(folder, name))
      expect(status).toBe(1)
      expect(text).toMatch(message)
    }
    expect((await merge('--out', 'x')).text).toMatch(/usage/)
    expect((await readdir(folder)).filter((name) => name !== 'g').sort()).toEqual(before.sort())
  })
})
