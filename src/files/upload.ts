import { decodeField, make, type MultipartError, type PartInfo } from 'multipasta'
import { drain, readChunk } from '../http/body-chunks.ts'
import { bodyOf } from '../http/request-body.ts'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { BlobWriter } from '../storage/blob-writer.ts'
import { Breather } from './breather.ts'
import { parseDisposition, type Disposition } from './disposition.ts'
import { TrainingReader, type OnExample } from './training-reader.ts'

export const MAX_FILE_BYTES = 64 * 1024 * 1024
/** The file with its multipart wrapping. */
const MAX_UPLOAD_BYTES = MAX_FILE_BYTES + 64 * 1024
const MAX_PARTS = 8
const MAX_FIELD_BYTES = 1024
const MAX_FILENAME_CHARS = 255
/** What is parsed at a time, empty lines alone in the worst case. */
const SLICE_BYTES = 8 * 1024
/** Some 10 ms of parsing. */
const BYTES_BETWEEN_PAUSES = 256 * 1024
/** A line costs as much as so many bytes of one. */
const BYTES_PER_LINE = 64

export type UploadedFile = {
  readonly filename: string
  readonly purpose: string
  readonly sizeBytes: number
  readonly numExamples: number
}

/**
 * Streams a multipart upload into the bucket, reading each line as it passes. Memory holds one part
 * of a blob and one line. Where anything is wrong, nothing is stored.
 * @param key where the file's bytes go
 * @param onExample told of every example as it is read, also where the file is refused later
 * @throws {ApiError} 400 naming every bad line, 413 past the limits
 */
export async function receiveUpload(
  request: Request,
  bucket: R2Bucket,
  key: string,
  pause?: () => Promise<void>,
  onExample?: OnExample,
): Promise<UploadedFile> {
  const form = new UploadForm(new BlobWriter(bucket, key), onExample)
  const contentType = request.headers.get('content-type') ?? ''
  const body = bodyOf(request, MAX_UPLOAD_BYTES, fileTooLarge)
  if (!/^multipart\/form-data\s*;/i.test(contentType) || body === null) {
    throw invalidRequest('The upload must be multipart/form-data with fields file and purpose.')
  }
  const parser = make({
    headers: { 'content-type': contentType },
    maxParts: MAX_PARTS,
    maxFieldSize: MAX_FIELD_BYTES,
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
  const reader = body.getReader()
  const breather = new Breather(BYTES_BETWEEN_PAUSES, pause)
  let numBytes = 0
  try {
    while (!form.hasFailed()) {
      const { done, value } = await readChunk(reader)
      if (done) {
        parser.end()
        break
      }
      numBytes += value.length
      if (numBytes > MAX_UPLOAD_BYTES) form.fail(fileTooLarge())
      for (let at = 0; at < value.length && !form.hasFailed(); at += SLICE_BYTES) {
        const slice = value.subarray(at, at + SLICE_BYTES)
        const linesBefore = form.numLines
        parser.write(slice)
        await breather.worked(slice.length + BYTES_PER_LINE * (form.numLines - linesBefore))
      }
      await form.flush()
    }
    return await form.finish()
  } catch (error) {
    await form.abort()
    await drain(reader)
    if (error instanceof URIError) throw invalidRequest('A file name is malformed.', 'file')
    throw error
  }
}

/** By our own reading: the parser's knows no characters past U+00FF. */
function dispositionOf({ headers }: PartInfo): Disposition | null {
  const header = headers['content-disposition']
  return typeof header === 'string' ? parseDisposition(header) : null
}

const fileTooLarge = () =>
  new ApiError(413, `The file is larger than ${MAX_FILE_BYTES} bytes.`, {
    param: 'file',
    code: 'request_too_large',
  })

function toApiError(error: MultipartError): ApiError {
  switch (error._tag) {
    case 'EndNotReached':
      return invalidRequest('The upload ended before its last boundary.')
    case 'ReachedLimit':
      return invalidRequest('The upload has too many fields or too long ones.')
    case 'InvalidBoundary':
    case 'BadHeaders':
    case 'InvalidDisposition':
      return malformedUpload()
  }
}

const malformedUpload = () => invalidRequest('The multipart upload is malformed.')

/** Not between the halves of a character. */
const shorten = (filename: string): string =>
  filename.slice(0, MAX_FILENAME_CHARS).replace(/[\uD800-\uDBFF]$/u, '')

/** The fields of one upload, in whatever order they come. */
class UploadForm {
  readonly #writer: BlobWriter
  readonly #reader: TrainingReader
  #filename: string | null = null
  #isFileWhole = false
  #purpose: string | null = null
  error: ApiError | null = null

  constructor(writer: BlobWriter, onExample?: OnExample) {
    this.#writer = writer
    this.#reader = new TrainingReader(onExample)
  }

  hasFailed(): boolean {
    return this.error !== null
  }

  get numLines(): number {
    return this.#reader.numLines
  }

  fail(error: ApiError): void {
    this.error ??= error
  }

  takeField(part: Disposition | null, info: PartInfo, value: Uint8Array): void {
    if (part === null) this.fail(malformedUpload())
    else if (part.name === 'purpose' && this.#purpose === null) {
      this.#purpose = decodeField(info, value)
      if (this.#purpose !== 'fine-tune') {
        this.fail(invalidRequest("Invalid 'purpose': only fine-tune is supported.", 'purpose'))
      }
    } else if (part.name === 'file') {
      this.fail(invalidRequest("'file' must be sent as a file, with a file name.", 'file'))
    } else this.fail(unknownField(part.name))
  }

  takeFile(part: Disposition | null): (chunk: Uint8Array | null) => void {
    if (part?.name !== 'file' || this.#filename !== null) {
      this.fail(part === null ? malformedUpload() : unknownField(part.name))
      return () => undefined
    }
    this.#filename = shorten(part.filename ?? '') || 'file.jsonl'
    return (chunk) => {
      if (chunk === null) {
        this.#isFileWhole = true
        this.#reader.end()
        return
      }
      this.#reader.push(chunk)
      if (this.#reader.isTooMany) this.fail(invalidFile(this.#reader.describeFault()!))
      // Bad files are read to the end, so that every bad line is named, but no longer kept.
      if (this.#reader.isSound) this.#writer.push(chunk)
      if (this.#writer.sizeBytes > MAX_FILE_BYTES) this.fail(fileTooLarge())
    }
  }

  async flush(): Promise<void> {
    if (this.error === null && this.#reader.isSound) await this.#writer.flush()
  }

  async finish(): Promise<UploadedFile> {
    if (this.error !== null) throw this.error
    if (this.#filename === null) throw missingField('file')
    if (!this.#isFileWhole) throw toApiError({ _tag: 'EndNotReached' })
    if (this.#purpose === null) throw missingField('purpose')
    const fault = this.#reader.describeFault()
    if (fault !== null) throw invalidFile(fault)
    await this.#writer.finish()
    return {
      filename: this.#filename,
      purpose: this.#purpose,
      sizeBytes: this.#writer.sizeBytes,
      numExamples: this.#reader.numExamples,
    }
  }

  async abort(): Promise<void> {
    await this.#writer.abort()
  }
}

const invalidFile = (fault: string) => invalidRequest(fault, 'file', 'invalid_file')
const missingField = (name: string) =>
  invalidRequest(`Missing required parameter: '${name}'.`, name)
const unknownField = (name: string) =>
  invalidRequest(`Unrecognized or repeated request argument supplied: ${name}`, name)
