import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { readChunk } from './body-chunks.ts'
import { joinChunks } from '../bytes/join-chunks.ts'
import { bodyOf } from './request-body.ts'

/** A prompt that fills the context has some tens of kilobytes; this leaves room for any encoding. */
const MAX_JSON_BODY_BYTES = 1024 * 1024

/**
 * Reads a JSON object. It counts the bytes as they come, since a content-length may lie or be
 * absent.
 * @throws {ApiError} 413 if the body is too large, 400 if it is not a JSON object
 */
export async function readJsonObject(request: Request): Promise<Record<string, unknown>> {
  const bytes = await readBounded(request, MAX_JSON_BODY_BYTES)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes))
  } catch {
    throw invalidRequest('The request body is not valid JSON.', null, 'invalid_json')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidRequest('The request body must be a JSON object.')
  }
  return value as Record<string, unknown>
}

export const bodyTooLarge = (maxBytes: number) =>
  new ApiError(413, `The request body is larger than ${maxBytes} bytes.`, {
    code: 'request_too_large',
  })

/**
 * Reads and decodes a body, and counts its bytes as they come.
 * @throws {ApiError} 413 if the body is too large, 415 if its encoding is unknown
 */
async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const body = bodyOf(request, maxBytes, () => bodyTooLarge(maxBytes))
  if (body === null) return new Uint8Array()
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await readChunk(body.reader)
    if (done) break
    size += value.length
    if (size > maxBytes) {
      await body.discard()
      throw bodyTooLarge(maxBytes)
    }
    chunks.push(value)
  }
  return joinChunks(chunks)
}
