import { toApiError } from '../dispatch/runner-error.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { encodeSse, SSE_DONE, SSE_KEEPALIVE } from '../protocol/sse.ts'

/** A write is also how a client that has gone is noticed while the runner is silent. */
const KEEPALIVE_MS = 2_000

/** How an answer's events are written, and what tells of a whole answer after the last one. */
export type SseWire<T extends object> = {
  readonly encode: (value: T) => string
  readonly done: string
}
const OPENAI_WIRE: SseWire<object> = { encode: encodeSse, done: SSE_DONE }

/**
 * An answer as server-sent events. It ends with `[DONE]` only where all of it was written; a
 * failure is an `error` event, and then there is no `[DONE]`.
 * @param caller aborted when the client goes away
 * @param pump writes the answer; what it throws ends the stream
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
      // Not awaited: the stream is read while it is being filled.
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

/** What a stream's reader is told of what ended it; what it is not told is logged. */
export function streamFailure(error: unknown): ApiError {
  try {
    return toApiError(error)
  } catch (unexpected) {
    console.error(JSON.stringify({ event: 'stream_failed', error: String(unexpected) }))
    return new ApiError(500, 'The server had an error while answering.')
  }
}
