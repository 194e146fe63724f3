import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { toApiError } from '../dispatch/runner-error.ts'
import { readJsonObject } from '../http/read-json.ts'
import { sseStream, streamFailure } from '../http/sse-stream.ts'
import { ApiError } from '../protocol/openai/error.ts'
import {
  responseRequestSchema,
  toResponseParam,
  withoutUnsupportedOfResponses,
} from '../protocol/openai/response-request.ts'
import type { ResponseObject, ResponseSettings } from '../protocol/openai/responses.ts'
import { parseWire } from '../protocol/parse.ts'
import { encodeTypedSse } from '../protocol/sse.ts'
import { startChat, type ChatRun } from './chat-run.ts'
import { ResponseWriter } from './response-writer.ts'

/** Chats in OpenAI's newer form: items come in and go out, and nothing is kept between requests. */
export const responses = new Hono<AppEnv>().post('/', async (c) => {
  const { body, ignored } = withoutUnsupportedOfResponses(await readJsonObject(c.req.raw))
  const { chat, settings, ignored: ignoredParts } = parseWire(responseRequestSchema, body)
  const as = { prefix: 'resp_', route: 'responses' } as const
  const run = await startChat(c, chat, as, [...ignored, ...ignoredParts]).catch(
    (error: unknown) => {
      throw error instanceof ApiError ? error.withParam(toResponseParam) : error
    },
  )
  if (chat.stream) return run.sendStream(responseStream(run, settings))
  return run.sendWhole(readWhole(run, settings))
})

/** @throws {ApiError} */
async function readWhole(run: ChatRun, settings: ResponseSettings): Promise<ResponseObject> {
  const writer = new ResponseWriter({ ...run, settings }, () => undefined)
  try {
    await pump(run, writer)
  } catch (error) {
    throw toApiError(error)
  }
  return writer.response
}

/**
 * Streams typed events. The last one says how the answer ended; like OpenAI's, they have no
 * `[DONE]`.
 */
function responseStream(run: ChatRun, settings: ResponseSettings): ReadableStream<Uint8Array> {
  const wire = { encode: encodeTypedSse, done: '' }
  return sseStream(
    run.caller,
    async (write) => {
      const writer = new ResponseWriter({ ...run, settings }, write)
      try {
        await pump(run, writer)
      } catch (error) {
        writer.fail(streamFailure(error))
      }
    },
    wire,
  )
}

async function pump(run: ChatRun, writer: ResponseWriter): Promise<void> {
  for await (const event of run.events) writer.read(event)
}
