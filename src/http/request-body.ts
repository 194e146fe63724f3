import { ApiError } from '../protocol/openai/error.ts'
import { drain } from './body-chunks.ts'
import { gunzip } from './gunzip.ts'

const AS_IT_IS = new Set(['', 'identity'])
const GZIP = new Set(['gzip', 'x-gzip'])

export interface RequestBody {
  /** Decoded as the request's `content-encoding` says. */
  readonly reader: ReadableStreamDefaultReader<Uint8Array>
  /** Reads on without decoding and keeps nothing; see `drain`. */
  readonly discard: () => Promise<void>
}

/**
 * @param maxBytes of what an encoded body holds; one that is not encoded its reader counts
 * @param tooLarge the refusal past it
 * @returns null where there is no body
 * @throws {ApiError} 415 naming an encoding that is not known
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
      `The content-encoding "${encoding.slice(0, 64)}" is not known here; send gzip, or the body as it is.`,
      { param: 'content-encoding', code: 'unsupported_encoding' },
    )
  }
  const sent = (request.body as ReadableStream<Uint8Array>).getReader()
  return {
    reader: isGzip ? gunzip(sent, maxBytes, tooLarge).getReader() : sent,
    discard: () => drain(sent),
  }
}
