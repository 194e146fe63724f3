import { BatchReader, parseBatchLine } from '../files/batch-reader.ts'
import type { Bindings } from '../env.ts'
import type { BatchError } from '../protocol/openai/batches.ts'
import { Breather } from '../bytes/breather.ts'
import type { BatchSpec } from './batch-spec.ts'
import type { BatchStore } from './batch-store.ts'

/** Other calls of the object run after this many bytes. */
const BYTES_PER_SLICE = 256 * 1024

export type BatchInput = {
  readonly errors: readonly BatchError[]
  readonly numRequests: number
  /** Null if the lines name several models. */
  readonly model: string | null
}

/** Reads a batch's input file into its store, line by line. */
export async function readInput(
  { BLOBS }: Bindings,
  { inputKey, endpoint }: BatchSpec,
  store: BatchStore,
): Promise<BatchInput> {
  store.forgetLines()
  const object = await BLOBS.get(inputKey)
  if (object === null) {
    const message = 'The input file was deleted before it was read.'
    const error = { code: 'file_not_found', line: null, message, param: 'input_file_id' }
    return { errors: [error], numRequests: 0, model: null }
  }
  const models = new Set<unknown>()
  const reader = new BatchReader((value, number) => {
    const parsed = parseBatchLine(value, endpoint)
    if ('fault' in parsed) return parsed.fault
    // Two are as good as many.
    if (models.size < 2) models.add(parsed.line.body['model'])
    if (store.addLine(number, parsed.line)) return null
    const message = `Another line has the custom_id ${JSON.stringify(parsed.line.custom_id)} too.`
    return { code: 'duplicate_custom_id', message, param: 'custom_id' }
  })
  const breather = new Breather(BYTES_PER_SLICE)
  for await (const chunk of object.body as ReadableStream<Uint8Array>) {
    reader.push(chunk)
    await breather.worked(chunk.length)
  }
  reader.end()
  const [model] = models
  return {
    errors: reader.faults(),
    numRequests: reader.numExamples,
    model: models.size === 1 && typeof model === 'string' ? model : null,
  }
}
