import { ApiError } from '../protocol/openai/error.ts'
import { drain } from './body-chunks.ts'
import { gunzip } from './gunzip.ts'

const AS_IT_IS = new Set(['', 'identity'])
const GZIP = new Set(['gzip', 'x-gzip'])

export interface RequestBody {
  /** Reads the body as the request's `content-encoding` decodes it. */
  readonly reader: ReadableStreamDefaultReader<Uint8Array>
  /** Reads the rest without decoding and keeps nothing; see `drain`. */
  readonly discard: () => Promise<void>
}

/**
 * Opens a request's body.
 * @param maxBytes the most bytes of an encoded body, decoded; the caller counts those of any other
 * @param tooLarge makes the error for a larger body
 * @returns null if there is no body
 * @throws {ApiError} 415 naming an unknown encoding
 */
export function bodyOf(
  request: Request,
  maxBytes: number,
  tooLarge: () => ApiError,
): RequestBody | null {
  const encoding = (request.headers.get('content-encoding') ?? '').trim().toLowerCase()
  const isGzip = GZIP.has(encoding)
  if (request.body === null) return null
  if (!isGzip && !AS_IT_IS.has(encoding)) {
    throw new ApiError(
      415,
      `The content-encoding "${encoding.slice(0, 64)}" is not supported; send gzip, or the body without an encoding.`,
      { param: 'content-encoding', code: 'unsupported_encoding' },
    )
  }
  const sent = (request.body as ReadableStream<Uint8Array>).getReader()
  return {
    reader: isGzip ? gunzip(sent, maxBytes, tooLarge).getReader() : sent,
    discard: () => drain(sent),
  }
}
