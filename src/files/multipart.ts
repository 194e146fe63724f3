import { make, type MultipartError, type PartInfo } from 'multipasta'
import { readChunk } from '../http/body-chunks.ts'
import { bodyOf } from '../http/request-body.ts'
import { invalidRequest, type ApiError } from '../protocol/openai/error.ts'
import { Breather } from '../bytes/breather.ts'
import { parseDisposition, type Disposition } from './disposition.ts'

const MAX_PARTS = 8
/** What is parsed at a time, empty lines alone in the worst case. */
const SLICE_BYTES = 8 * 1024
/** Some 10 ms of parsing. */
const BYTES_BETWEEN_PAUSES = 256 * 1024

export interface MultipartLimits {
  /** The body with everything in it. */
  readonly maxBytes: number
  /** One field that is no file. */
  readonly maxFieldBytes: number
  /** The refusal of a body past `maxBytes`. */
  readonly tooLarge: () => ApiError
}

/** Takes a form's parts as they come, and keeps the first fault of what it takes or is told. */
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

  /** Work done so far beyond looking at each byte once, in bytes. */
  get extraWork(): number {
    return 0
  }

  /** @param part null where its header says no name */
  abstract takeField(part: Disposition | null, info: PartInfo, value: Uint8Array): void

  /** @returns what takes the file's bytes, which are valid only during the call, and null at its end */
  abstract takeFile(part: Disposition | null): (chunk: Uint8Array | null) => void

  /** Called between chunks of the body. */
  async flush(): Promise<void> {
    // Most forms hold what they take.
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
 * Reads a multipart body into a form as it streams by; other requests run in between. It stops at
 * the form's first fault.
 * @throws {ApiError} the form's fault, 400 for what is no multipart body, 413 past a limit
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

/** By our own reading: the parser's knows no characters past U+00FF. */
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
