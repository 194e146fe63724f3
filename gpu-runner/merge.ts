/** `npm run merge`: folds an adapter of scope `all` into a copy of its base model's file. */
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { decodeAdapter, digestOf } from '../adapters/format/adapter-file.ts'
import { CATALOGUE, DEFAULT_MODEL_SLUG } from './model/catalogue.ts'
import { decodeModelConfig, openGguf } from './model/gguf/index.ts'
import { mergeAdapter, type MergeDtype } from './model/merge-adapter.ts'
import { modelDirectory, pullModel } from './model/pull.ts'

const USAGE =
  'usage: npm run merge -- --adapter FILE --out FILE [--dtype f32|f16] [--model SLUG]\n' +
  '--adapter is a file from GET /v1/tasks/NAME/versions/N/adapter; --out must not exist yet'

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      adapter: { type: 'string' },
      out: { type: 'string' },
      dtype: { type: 'string', default: 'f32' },
      model: { type: 'string', default: DEFAULT_MODEL_SLUG },
    },
  })
  const { adapter: adapterPath, out } = values
  if (adapterPath === undefined || out === undefined) throw new Error(USAGE)
  if (!isDtype(values.dtype)) throw new Error(`--dtype is f32 or f16, not ${values.dtype}`)
  const entry = CATALOGUE.get(values.model)
  if (!entry) {
    throw new Error(
      `there is no model ${values.model}; known are ${[...CATALOGUE.keys()].join(', ')}`,
    )
  }
  const bytes = await readFile(adapterPath)
  const source = await pullModel(entry, { directory: modelDirectory(process.env) })
  const file = await openGguf(source)
  const config = decodeModelConfig(file.metadata)
  await file.close()
  const { numLayers, numHeads, headDim } = config
  const decoded = decodeAdapter(bytes, { numLayers, numHeads, headDim })
  if (!decoded.ok) throw new Error(`${adapterPath}: ${decoded.error.message}`)
  const adapter = decoded.value
  if (adapter.modelDigest !== entry.sha256) {
    throw new Error(
      `${adapterPath} was learnt on base model ${adapter.modelDigest}; ` +
        `${entry.slug} is ${entry.sha256}`,
    )
  }
  const merged = await mergeAdapter(source, out, adapter, await digestOf(bytes), values.dtype)
  console.log(
    `${out}: ${entry.slug} with layers ${merged.layers.join(' ')} merged, ` +
      `${values.dtype}, ${merged.sizeBytes} bytes`,
  )
}

const isDtype = (text: string): text is MergeDtype => text === 'f32' || text === 'f16'

main().catch((error: unknown) => {
  console.error(`merge: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
})
