import { Hono } from 'hono'
import { ResponseWriter } from '../answers/response-writer.ts'
import {
  readResponse,
  startResponse,
  writeResponse,
  type ResponseRun,
} from '../answers/response.ts'
import type { AppEnv } from '../context.ts'
import { readJsonObject } from '../http/read-json.ts'
import { sseStream, streamFailure } from '../http/sse-stream.ts'
import { encodeTypedSse } from '../protocol/sse.ts'
import { answerContextOf, sendStream, sendWhole } from './answer-route.ts'

/** Chats in OpenAI's newer form: items come in and go out, and nothing is kept between requests. */
export const responses = new Hono<AppEnv>().post('/', async (c) => {
  const run = await startResponse(answerContextOf(c), await readJsonObject(c.req.raw))
  return run.isStream ? sendStream(run, responseStream(run)) : sendWhole(run, readResponse(run))
})

/**
 * Streams typed events. The last one says how the answer ended; like OpenAI's, they have no
 * `[DONE]`.
 */
function responseStream(run: ResponseRun): ReadableStream<Uint8Array> {
  const wire = { encode: encodeTypedSse, done: '' }
  return sseStream(
    run.caller,
    async (write) => {
      const writer = new ResponseWriter(run, write)
      try {
        await writeResponse(run, writer)
      } catch (error) {
        writer.fail(streamFailure(error))
      }
    },
    wire,
  )
}
