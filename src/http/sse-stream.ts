import { toApiError } from '../dispatch/runner-error.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { encodeSse, SSE_DONE, SSE_KEEPALIVE } from '../protocol/sse.ts'

/** While the runner is silent, only a write that fails shows that the client has gone. */
const KEEPALIVE_MS = 2_000

/** How events are written, and the text that follows the last event of a complete answer. */
export type SseWire<T extends object> = {
  readonly encode: (value: T) => string
  readonly done: string
}
const OPENAI_WIRE: SseWire<object> = { encode: encodeSse, done: SSE_DONE }

/**
 * Writes an answer as server-sent events. Only a complete answer ends with `[DONE]`; a failure is an
 * `error` event without one.
 * @param caller aborted when the client goes away
 * @param pump writes the answer; an error that it throws ends the stream
 */
export function sseStream<T extends object>(
  caller: AbortController,
  pump: (write: (value: T) => void) => Promise<void>,
  { encode, done }: SseWire<T> = OPENAI_WIRE,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let keepalive: ReturnType<typeof setInterval> | null = null
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (frame: string) => {
        if (!caller.signal.aborted) controller.enqueue(encoder.encode(frame))
      }
      keepalive = setInterval(() => {
        send(SSE_KEEPALIVE)
      }, KEEPALIVE_MS)
      const run = async () => {
        try {
          await pump((value) => {
            send(encode(value))
          })
          send(done)
        } catch (error) {
          send(encodeSse(streamFailure(error).toBody()))
        }
      }
      // Not awaited, because the stream must be read while it is filled.
      void run().finally(() => {
        if (keepalive !== null) clearInterval(keepalive)
        if (!caller.signal.aborted) controller.close()
      })
    },
    cancel() {
      if (keepalive !== null) clearInterval(keepalive)
      caller.abort()
    },
  })
}

/** The error that the reader of a stream sees. Details that it does not see are logged. */
export function streamFailure(error: unknown): ApiError {
  try {
    return toApiError(error)
  } catch (unexpected) {
    console.error(JSON.stringify({ event: 'stream_failed', error: String(unexpected) }))
    return new ApiError(500, 'The server had an error while answering.')
  }
}
