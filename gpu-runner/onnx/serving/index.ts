import { createHash } from 'node:crypto'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import {
  checkTensorNames,
  decodeModelConfig,
  openGguf,
  type ModelConfig,
} from '../../model/gguf/index.ts'
import { encodeModel } from '../serde.ts'
import { WeightFile } from '../weight-file.ts'
import { buildDecoder } from './decoder.ts'
import type { WeightFormat } from './linear.ts'
import { SourceWeights } from './weights.ts'

export type { WeightFormat } from './linear.ts'

/** Raised whenever the same model file would give another graph or other weights. */
const BUILDER_VERSION = 2

export type BuildOptions = {
  readonly format: WeightFormat
  readonly rotation: boolean
  readonly maxContext: number
}

export type Build = {
  readonly modelPath: string
  /** SHA-256 over all that determines the numbers: model, builder version, format, provider. */
  readonly graphDigest: string
  readonly config: ModelConfig
}

/** The external data file in a build's folder. */
export const DATA_FILE = 'weights.bin'

/**
 * Opens the graph of a model file, from the cache or built now. A build gets its final name only once
 * it is complete, so a later start never takes what a crash left behind for a build.
 * @param modelDigest SHA-256 of the model file
 * @param cacheDir folder that holds a folder for each build
 */
export async function openBuild(
  ggufPath: string,
  modelDigest: string,
  cacheDir: string,
  options: BuildOptions,
): Promise<Build> {
  const graphDigest = createHash('sha256')
    .update(JSON.stringify({ modelDigest, builder: BUILDER_VERSION, provider: 'cpu', ...options }))
    .digest('hex')
  const file = await openGguf(ggufPath)
  try {
    const config = decodeModelConfig(file.metadata)
    checkTensorNames(config, file.tensors.keys())
    const folder = path.join(cacheDir, `${options.format}-${graphDigest.slice(0, 16)}`)
    const modelPath = path.join(folder, 'model.onnx')
    if (await exists(modelPath)) return { modelPath, graphDigest, config }
    const temporary = `${folder}.${process.pid}.tmp`
    await mkdir(temporary, { recursive: true })
    const weights = await WeightFile.create(path.join(temporary, DATA_FILE))
    const graph = await buildDecoder(config, new SourceWeights(file), weights, options)
    await weights.close()
    await writeFile(path.join(temporary, 'model.onnx'), encodeModel(graph, DATA_FILE))
    try {
      await rename(temporary, folder)
    } catch (error) {
      // Another process finished the same build first; its bytes are the same.
      if (!(await exists(modelPath))) throw error
      await rm(temporary, { recursive: true })
    }
    return { modelPath, graphDigest, config }
  } finally {
    await file.close()
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  )
}
