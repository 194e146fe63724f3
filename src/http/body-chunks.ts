import { ApiError, invalidRequest } from '../protocol/openai/error.ts'

/**
 * A body that is too large is still read, up to this size, and thrown away. A client that is sending
 * when the connection closes would see a broken pipe instead of the answer.
 */
const MAX_DRAINED_BYTES = 32 * 1024 * 1024

export const incompleteBody = () =>
  invalidRequest('The request body ended before it was complete.', null, 'incomplete_body')

/** Whether an error means that the client has gone, or has broken off its body. */
export const isIncompleteBody = (error: Error, request: Request): boolean =>
  request.signal.aborted || /^(Network connection lost|Client disconnected)/.test(error.message)

/**
 * Reads the next chunk of a request's body. If that fails, the client left or cut its chunks
 * wrongly; a 500 would blame the server.
 * @throws {ApiError} 400
 */
export async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read()
  } catch (error) {
    throw error instanceof ApiError ? error : incompleteBody()
  }
}

/** Reads a stream to its end, or to a limit, and keeps nothing. */
export async function drain(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  let size = 0
  try {
    while (size < MAX_DRAINED_BYTES) {
      const { done, value } = await reader.read()
      if (done) return
      size += value.length
    }
    await reader.cancel()
  } catch {
    // The client has gone, so nobody waits for an answer.
  }
}
