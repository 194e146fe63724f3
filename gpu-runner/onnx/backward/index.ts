import { readFile, rename, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DATA_FILE, type Build } from '../serving/index.ts'
import { decodeExternalInitializers, encodeModel } from '../serde.ts'
import { buildTrainingGraph, type LossKind } from './training-graph.ts'

export type { LossKind } from './training-graph.ts'

/** Raised whenever the same float32 build would give another training graph. */
const TRAINING_GRAPH_VERSION = 3

/**
 * Opens the training graph of a float32 build. It is in the build's folder and refers to the weights
 * there, so it takes a megabyte and no second copy of them.
 * @returns path of the model
 */
export async function openTrainingGraph(build: Build, loss: LossKind): Promise<string> {
  const folder = path.dirname(build.modelPath)
  const modelPath = path.join(folder, `gradient-${loss}-${TRAINING_GRAPH_VERSION}.onnx`)
  const isThere = await stat(modelPath).then(
    () => true,
    () => false,
  )
  if (isThere) return modelPath
  const weights = decodeExternalInitializers(await readFile(build.modelPath))
  const bytes = encodeModel(buildTrainingGraph(build.config, weights, loss), DATA_FILE)
  const temporary = `${modelPath}.${process.pid}.tmp`
  await writeFile(temporary, bytes)
  await rename(temporary, modelPath)
  return modelPath
}
