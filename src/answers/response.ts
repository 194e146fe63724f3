import { toApiError } from '../dispatch/runner-error.ts'
import { ApiError } from '../protocol/openai/error.ts'
import {
  responseRequestSchema,
  toResponseParam,
  withoutUnsupportedOfResponses,
} from '../protocol/openai/response-request.ts'
import type { ResponseObject, ResponseSettings } from '../protocol/openai/responses.ts'
import { parseWire } from '../protocol/parse.ts'
import type { AnswerContext } from './answer-context.ts'
import { startChat, type ChatRun } from './chat-run.ts'
import { ResponseWriter } from './response-writer.ts'

export type ResponseRun = ChatRun & {
  readonly settings: ResponseSettings
  readonly isStream: boolean
}

/**
 * Starts the answer to a body of `POST /v1/responses`.
 * @throws {ApiError}
 */
export async function startResponse(
  context: AnswerContext,
  given: Record<string, unknown>,
): Promise<ResponseRun> {
  const { body, ignored } = withoutUnsupportedOfResponses(given)
  const { chat, settings, ignored: ignoredParts } = parseWire(responseRequestSchema, body)
  const as = { prefix: 'resp_', route: 'responses' } as const
  try {
    const run = await startChat(context, chat, as, [...ignored, ...ignoredParts])
    return { ...run, settings, isStream: chat.stream }
  } catch (error) {
    throw error instanceof ApiError ? error.withParam(toResponseParam) : error
  }
}

/** @throws {ApiError} */
export async function readResponse(run: ResponseRun): Promise<ResponseObject> {
  const writer = new ResponseWriter(run, () => undefined)
  try {
    await writeResponse(run, writer)
  } catch (error) {
    throw toApiError(error)
  }
  return writer.response
}

/** Writes the answer's events until it is complete. */
export async function writeResponse(run: ResponseRun, writer: ResponseWriter): Promise<void> {
  for await (const event of run.events) writer.read(event)
}
