import type { TrainingExample } from './training-line.ts'
import { TrainingReader } from './training-reader.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { MAX_DATASET_EXAMPLES } from '../protocol/runner-scoring.ts'

/** An example and the line of its file that holds it. */
export type NumberedExample = { readonly example: TrainingExample; readonly line: number }

/** Creating a job keeps its examples in memory; a Worker has 128 MB. */
const MAX_DATASET_BYTES = 16 * 1024 * 1024

/**
 * Reads the examples of a stored file.
 * @param param the request's field that names the file
 * @throws {ApiError} 400 if the file is gone or holds more than a job can learn from
 */
export async function readExamples(
  bucket: R2Bucket,
  blobKey: string,
  param: 'training_file' | 'validation_file' | 'file',
): Promise<readonly NumberedExample[]> {
  const object = await bucket.get(blobKey)
  if (object === null) throw invalidRequest('The file has been deleted.', param)
  if (object.size > MAX_DATASET_BYTES) {
    await object.body.cancel()
    throw invalidRequest(
      `The file has ${object.size} bytes; at most ${MAX_DATASET_BYTES} are read.`,
      param,
    )
  }
  const examples: NumberedExample[] = []
  const reader = new TrainingReader((example, line) => examples.push({ example, line }))
  for await (const chunk of object.body as ReadableStream<Uint8Array>) reader.push(chunk)
  reader.end()
  const fault = reader.describeFault()
  if (fault !== null) throw invalidRequest(fault, param)
  if (examples.length > MAX_DATASET_EXAMPLES) {
    throw invalidRequest(
      `The file has ${examples.length} examples; at most ${MAX_DATASET_EXAMPLES} are read.`,
      param,
    )
  }
  return examples
}
