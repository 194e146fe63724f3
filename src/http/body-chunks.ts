import { ApiError, invalidRequest } from '../protocol/openai/error.ts'

/**
 * A body past its limit is read on and thrown away up to this, since a client that is still sending
 * when the connection closes sees a broken pipe instead of the answer.
 */
const MAX_DRAINED_BYTES = 32 * 1024 * 1024

export const incompleteBody = () =>
  invalidRequest('The request body ended before it was complete.', null, 'incomplete_body')

/** Whether an error is of a client that went away, or broke off its body. */
export const isIncompleteBody = (error: Error, request: Request): boolean =>
  request.signal.aborted || /^(Network connection lost|Client disconnected)/.test(error.message)

/**
 * Reads on in a request's body. What breaks there is the client's: it left, or its chunks are cut
 * wrong, and a 500 would blame the server.
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

/** Reads a stream to its end, or to a bound, and keeps nothing. */
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
    // The client has gone; there is nobody left to answer.
  }
}
