import { ApiError } from '../protocol/openai/error.ts'
import { gunzip } from './gunzip.ts'

const AS_IT_IS = new Set(['', 'identity'])
const GZIP = new Set(['gzip', 'x-gzip'])

/**
 * A request's body, decoded as its `content-encoding` says.
 * @param maxBytes of what an encoded body holds; one that is not encoded its reader counts
 * @param tooLarge the refusal past it
 * @throws {ApiError} 415 naming an encoding that is not known
 */
export function bodyOf(
  request: Request,
  maxBytes: number,
  tooLarge: () => ApiError,
): ReadableStream<Uint8Array> | null {
  const body = request.body as ReadableStream<Uint8Array> | null
  const encoding = (request.headers.get('content-encoding') ?? '').trim().toLowerCase()
  if (body === null || AS_IT_IS.has(encoding)) return body
  if (GZIP.has(encoding)) return gunzip(body, maxBytes, tooLarge)
  throw new ApiError(
    415,
    `The content-encoding "${encoding.slice(0, 64)}" is not known here; send gzip, or the body as it is.`,
    { param: 'content-encoding', code: 'unsupported_encoding' },
  )
}
