import { insertFile } from '../db/files.ts'
import type { Bindings } from '../env.ts'
import type { BatchLineError } from '../protocol/openai/batches.ts'
import { BlobWriter } from '../storage/blob-writer.ts'
import { fileKey } from '../storage/blobs.ts'
import type { BatchSpec, BatchState } from './batch-spec.ts'
import type { BatchStore, ListedLine } from './batch-store.ts'

const LINES_PER_PAGE = 100

const UNFINISHED: Readonly<Record<BatchState['ending'], BatchLineError | null>> = {
  completed: null,
  expired: {
    code: 'batch_expired',
    message: 'This request could not be executed before the completion window expired.',
  },
  cancelled: {
    code: 'batch_cancelled',
    message: 'This request was not executed, because the batch was cancelled.',
  },
}

/**
 * A line of an output or error file.
 * @param response its status and its body as JSON; null if the request was never answered
 */
export function writeLine(
  { customId, requestId }: Pick<ListedLine, 'customId' | 'requestId'>,
  response: { readonly status: number; readonly body: string } | null,
  error: BatchLineError | null = null,
): string {
  const hex = requestId.slice('req_'.length)
  const ids = `"id":"batch_req_${hex}","custom_id":${JSON.stringify(customId)}`
  const answer =
    response === null
      ? 'null'
      : `{"status_code":${response.status},"request_id":"${requestId}","body":${response.body}}`
  return `{${ids},"response":${answer},"error":${JSON.stringify(error)}}`
}

/**
 * Writes the batch's files: a blob each, then its row. Writing them once more changes nothing.
 * @returns which of them there are
 */
export async function writeFiles(
  env: Bindings,
  spec: BatchSpec,
  state: BatchState,
  store: BatchStore,
): Promise<{ readonly hasOutputFile: boolean; readonly hasErrorFile: boolean }> {
  const write = (id: string, suffix: string, textOf: (line: ListedLine) => string | null) =>
    writeFile(env, spec, { id, filename: `${spec.id}_${suffix}.jsonl` }, store, textOf)
  const unfinished = UNFINISHED[state.ending]
  return {
    hasOutputFile: await write(spec.outputFileId, 'output', (line) =>
      line.isDone && !line.isFailed ? store.resultOf(line.number) : null,
    ),
    hasErrorFile: await write(spec.errorFileId, 'error', (line) => {
      if (line.isDone) return line.isFailed ? store.resultOf(line.number) : null
      return unfinished === null ? null : writeLine(line, null, unfinished)
    }),
  }
}

/** @returns whether the file has any line; there is none without */
async function writeFile(
  { BLOBS, DB }: Bindings,
  { projectId }: BatchSpec,
  file: { readonly id: string; readonly filename: string },
  store: BatchStore,
  textOf: (line: ListedLine) => string | null,
): Promise<boolean> {
  const blobKey = fileKey(projectId, file.id)
  const writer = new BlobWriter(BLOBS, blobKey)
  const encoder = new TextEncoder()
  let numLines = 0
  try {
    for (let last = 0; ;) {
      const page = store.listLines(last, LINES_PER_PAGE)
      if (page.length === 0) break
      for (const line of page) {
        last = line.number
        const text = textOf(line)
        if (text === null) continue
        numLines += 1
        writer.push(encoder.encode(`${text}\n`))
        await writer.flush()
      }
    }
    if (numLines === 0) return false
    await writer.finish()
  } catch (error) {
    await writer.abort()
    throw error
  }
  await insertFile(DB, {
    projectId,
    ...file,
    purpose: 'batch_output',
    sizeBytes: writer.sizeBytes,
    numExamples: numLines,
    blobKey,
    createdAtMs: Date.now(),
  })
  return true
}
