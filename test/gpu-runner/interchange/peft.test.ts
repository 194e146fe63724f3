import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, it } from 'vitest'
import {
  exportPeftOft,
  importPeftOft,
  PEFT_CONFIG_FILE,
  PEFT_WEIGHTS_FILE,
} from '../../../adapters/interchange/peft-oft.ts'
import { touchedLayers, type Rotation } from '../../../adapters/rotation/rotation.ts'
import type { Runner } from '../../../gpu-runner/runner.ts'
import { largestDifference, scopeAllLogits } from '../../fixtures/logits.ts'
import { modelPath } from '../../fixtures/model.ts'
import { needs } from '../../fixtures/needs.ts'
import { MODEL_DIGEST, openTestRunner, randomRotation } from '../../fixtures/runner.ts'

/**
 * A Python with test/interchange/requirements.txt installed, 5 GB with CUDA's libraries: CI has none.
 * Without it this file is skipped and says so.
 */
const python = process.env['ARCANA_PEFT_PYTHON']
if (python === undefined) {
  console.warn('PEFT is not tested: ARCANA_PEFT_PYTHON names no Python that has it')
}

/** Two programs' float32 through thirty layers. Measured 6.7e-5 for logits of size 20. */
const MAX_DIFFERENCE = 1e-3
const TEXT =
  'The two neighbours agreed to reopen their land border after a decade, and the first buses'
const SCRIPT = 'test/interchange/peft_oft.py'
/** Layers of PEFT's own adapter. */
const LAYERS = [0, 4, 17, 29]

type Answer = {
  readonly versions: Readonly<Record<string, string>>
  readonly base: number[]
  readonly import: readonly { readonly applied: number[]; readonly merged: number[] }[]
  readonly export: number[]
}

describe('PEFT itself', needs('ARCANA_PEFT_PYTHON', python !== undefined), () => {
  let folder: string
  let runner: Runner
  let ids: readonly number[]
  let rotation: Rotation
  let answer: Answer

  const ourLogits = async (name: string, of: Rotation) => {
    const slot = runner.context.slots.acquire(name, () => of)
    return (await scopeAllLogits(runner, ids, slot, 1)).logits
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arcana-peft-'))
    runner = await openTestRunner({ decodeFormat: 'float32' })
    ids = runner.context.tokenizer.encode(TEXT)
    const { geometry, layers } = randomRotation(runner, 11, 0.4)
    // Only some layers, and one pair with an angle above a quarter turn.
    rotation = { geometry, layers: new Map([...layers].filter(([layer]) => layer % 3 !== 1)) }
    rotation.layers.get(0)!.angles[0] = 2.5
    const exported = exportPeftOft(
      { modelDigest: MODEL_DIGEST, scope: 'all', dtype: 'F32', rotation },
      'smollm2-135m-instruct',
    )
    if (!exported.ok) throw new Error(exported.error.message)
    const ours = join(folder, 'ours')
    await mkdir(ours)
    await writeFile(join(ours, PEFT_CONFIG_FILE), exported.value.config)
    await writeFile(join(ours, PEFT_WEIGHTS_FILE), exported.value.weights)

    const child = spawn(python!, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] })
    child.stdin.end(
      JSON.stringify({
        gguf: await modelPath(),
        ids,
        import: [ours],
        export: join(folder, 'theirs'),
        layers: LAYERS,
      }),
    )
    answer = JSON.parse(await text(child.stdout)) as Answer
  })
  afterAll(async () => {
    await runner.release()
    await rm(folder, { recursive: true, force: true })
  })

  it('reads an adapter that Arcana wrote as the same map', async ({ expect }) => {
    const base = await ourLogits('base', { ...rotation, layers: new Map() })
    const ours = await ourLogits('ours', rotation)
    const [theirs] = answer.import
    const figures = {
      ...answer.versions,
      base: largestDifference(answer.base, base),
      applied: largestDifference(theirs!.applied, ours),
      merged: largestDifference(theirs!.merged, ours),
      effect: largestDifference(ours, base),
      mirrored: largestDifference(theirs!.applied, await ourLogits('mirrored', mirror(rotation))),
    }
    console.log(figures)
    expect(figures.base).toBeLessThan(MAX_DIFFERENCE)
    expect(figures.applied).toBeLessThan(MAX_DIFFERENCE)
    expect(figures.merged).toBeLessThan(MAX_DIFFERENCE)
    // The adapter has an effect, and its mirror image another one.
    expect(figures.effect).toBeGreaterThan(1)
    expect(figures.mirrored).toBeGreaterThan(1)
  })

  it('writes an adapter that Arcana reads as the same map', async ({ expect }) => {
    const read = (name: string) => readFile(join(folder, 'theirs', name))
    const imported = importPeftOft(
      { config: await read(PEFT_CONFIG_FILE), weights: await read(PEFT_WEIGHTS_FILE) },
      { modelDigest: MODEL_DIGEST, geometry: rotation.geometry },
    )
    if (!imported.ok) throw new Error(imported.error.message)
    expect(touchedLayers(imported.value.rotation)).toEqual(LAYERS)
    const ours = await ourLogits('theirs', imported.value.rotation)
    const difference = largestDifference(answer.export, ours)
    console.log({ difference, effect: largestDifference(answer.export, answer.base) })
    expect(difference).toBeLessThan(MAX_DIFFERENCE)
    expect(largestDifference(answer.export, answer.base)).toBeGreaterThan(1)
  })
})

const mirror = ({ geometry, layers }: Rotation): Rotation => ({
  geometry,
  layers: new Map(
    [...layers].map(([layer, { angles }]) => [layer, { angles: angles.map((a) => -a) }]),
  ),
})
