import { make, type MultipartError, type PartInfo } from 'multipasta'
import { readChunk } from '../http/body-chunks.ts'
import { bodyOf } from '../http/request-body.ts'
import { invalidRequest, type ApiError } from '../protocol/openai/error.ts'
import { Breather } from '../bytes/breather.ts'
import { parseDisposition, type Disposition } from './disposition.ts'

const MAX_PARTS = 8
/** How much is parsed at a time. In the worst case it is all empty lines. */
const SLICE_BYTES = 8 * 1024
/** About 10 ms of parsing. */
const BYTES_BETWEEN_PAUSES = 256 * 1024

export interface MultipartLimits {
  /** The most bytes of the whole body. */
  readonly maxBytes: number
  /** The most bytes of a field that is not a file. */
  readonly maxFieldBytes: number
  /** Makes the error for a larger body. */
  readonly tooLarge: () => ApiError
}

/** Takes a form's parts as they come. It keeps the first error, its own or one that it is told. */
export abstract class MultipartForm {
  #error: ApiError | null = null

  get error(): ApiError | null {
    return this.#error
  }

  hasFailed(): boolean {
    return this.#error !== null
  }

  fail(error: ApiError): void {
    this.#error ??= error
  }

  /** The work done so far besides reading each byte once, counted in bytes. */
  get extraWork(): number {
    return 0
  }

  /** @param part null if the part's header has no name */
  abstract takeField(part: Disposition | null, info: PartInfo, value: Uint8Array): void

  /**
   * @returns a function that takes the file's chunks, then null. A chunk is valid only during its
   * call.
   */
  abstract takeFile(part: Disposition | null): (chunk: Uint8Array | null) => void

  /** Called between chunks of the body. */
  async flush(): Promise<void> {
    // Most forms keep what they take in memory.
  }
}

export const malformedUpload = () => invalidRequest('The multipart upload is malformed.')
export const endNotReached = () => invalidRequest('The upload ended before its last boundary.')
export const unknownField = (name: string) =>
  invalidRequest(
    `Unrecognized or repeated request argument supplied: ${name.slice(0, 64)}`,
    name.slice(0, 64),
  )

/**
 * Streams a multipart body into a form, and lets other requests run in between. It stops at the
 * form's first error.
 * @throws {ApiError} the form's error; 400 if the body is not multipart, 413 if it is too large
 */
export async function receiveMultipart(
  request: Request,
  form: MultipartForm,
  { maxBytes, maxFieldBytes, tooLarge }: MultipartLimits,
  pause?: () => Promise<void>,
): Promise<void> {
  const contentType = request.headers.get('content-type') ?? ''
  const body = bodyOf(request, maxBytes, tooLarge)
  if (!/^multipart\/form-data\s*;/i.test(contentType) || body === null) {
    throw invalidRequest('The request body must be multipart/form-data.')
  }
  const parser = make({
    headers: { 'content-type': contentType },
    maxParts: MAX_PARTS,
    maxFieldSize: maxFieldBytes,
    isFile: (info) =>
      dispositionOf(info)?.filename != null || info.contentType === 'application/octet-stream',
    onField: (info, value) => {
      form.takeField(dispositionOf(info), info, value)
    },
    onFile: (info) => form.takeFile(dispositionOf(info)),
    onError: (error) => {
      form.fail(toApiError(error))
    },
    onDone: () => undefined,
  })
  const breather = new Breather(BYTES_BETWEEN_PAUSES, pause)
  let numBytes = 0
  try {
    while (!form.hasFailed()) {
      const { done, value } = await readChunk(body.reader)
      if (done) {
        parser.end()
        break
      }
      numBytes += value.length
      if (numBytes > maxBytes) form.fail(tooLarge())
      for (let at = 0; at < value.length && !form.hasFailed(); at += SLICE_BYTES) {
        const slice = value.subarray(at, at + SLICE_BYTES)
        const workBefore = form.extraWork
        parser.write(slice)
        await breather.worked(slice.length + form.extraWork - workBefore)
      }
      await form.flush()
    }
    if (form.error !== null) throw form.error
  } catch (error) {
    await body.discard()
    if (error instanceof URIError) throw invalidRequest('A file name is malformed.', 'file')
    throw error
  }
}

/** Reads the header again, because the parser knows no characters beyond U+00FF. */
function dispositionOf({ headers }: PartInfo): Disposition | null {
  const header = headers['content-disposition']
  return typeof header === 'string' ? parseDisposition(header) : null
}

function toApiError(error: MultipartError): ApiError {
  switch (error._tag) {
    case 'EndNotReached':
      return endNotReached()
    case 'ReachedLimit':
      return invalidRequest('The upload has too many fields or too long ones.')
    case 'InvalidBoundary':
    case 'BadHeaders':
    case 'InvalidDisposition':
      return malformedUpload()
  }
}
