import { decodeField, type PartInfo } from 'multipasta'
import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import { BlobWriter } from '../storage/blob-writer.ts'
import type { Disposition } from './disposition.ts'
import {
  endNotReached,
  malformedUpload,
  MultipartForm,
  receiveMultipart,
  unknownField,
} from './multipart.ts'
import { BatchReader } from './batch-reader.ts'
import { TrainingReader, type OnExample } from './training-reader.ts'

const MAX_FILE_BYTES = 64 * 1024 * 1024
/** The file and the rest of the form. */
const MAX_UPLOAD_BYTES = MAX_FILE_BYTES + 64 * 1024
const MAX_FIELD_BYTES = 1024
const MAX_FILENAME_CHARS = 255
/** Each line costs as much work as this many bytes. */
const BYTES_PER_LINE = 64

export type UploadedFile = {
  readonly filename: string
  readonly purpose: string
  readonly sizeBytes: number
  readonly numExamples: number
}

/**
 * Streams a multipart upload into the bucket and checks each line on the way. Memory holds one part
 * of a blob and one line. If anything is wrong, nothing is stored.
 * @param key the key of the file's blob
 * @param onExample called for every example as it is read, even if the file is refused later
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
  const limits = {
    maxBytes: MAX_UPLOAD_BYTES,
    maxFieldBytes: MAX_FIELD_BYTES,
    tooLarge: fileTooLarge,
  }
  try {
    await receiveMultipart(request, form, limits, pause)
    return await form.finish()
  } catch (error) {
    await form.abort()
    throw error
  }
}

const fileTooLarge = () =>
  new ApiError(413, `The file is larger than ${MAX_FILE_BYTES} bytes.`, {
    param: 'file',
    code: 'request_too_large',
  })

/** Shortens a file name, but never to half of a surrogate pair. */
const shorten = (filename: string): string =>
  filename.slice(0, MAX_FILENAME_CHARS).replace(/[\uD800-\uDBFF]$/u, '')

/** The form of one upload. Its fields may come in any order. */
class UploadForm extends MultipartForm {
  readonly #writer: BlobWriter
  /** By purpose. A file may come before its purpose, so each of them reads it until that is known. */
  #readers: ReadonlyMap<string, TrainingReader | BatchReader>
  #filename: string | null = null
  #isFileWhole = false
  #purpose: string | null = null

  constructor(writer: BlobWriter, onExample?: OnExample) {
    super()
    this.#writer = writer
    this.#readers = new Map<string, TrainingReader | BatchReader>([
      ['fine-tune', new TrainingReader(onExample)],
      ['batch', new BatchReader()],
    ])
  }

  override get extraWork(): number {
    return BYTES_PER_LINE * Math.max(...this.#each(({ numLines }) => numLines))
  }

  takeField(part: Disposition | null, info: PartInfo, value: Uint8Array): void {
    if (part === null) this.fail(malformedUpload())
    else if (part.name === 'purpose' && this.#purpose === null) {
      this.#purpose = decodeField(info, value)
      const reader = this.#readers.get(this.#purpose)
      if (reader !== undefined) this.#readers = new Map([[this.#purpose, reader]])
      else {
        const message = "Invalid 'purpose': only fine-tune and batch are supported."
        this.fail(invalidRequest(message, 'purpose'))
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
        for (const reader of this.#readers.values()) reader.end()
        return
      }
      for (const reader of this.#readers.values()) reader.push(chunk)
      const [first] = this.#readers.values()
      if (this.#each((reader) => reader.isTooMany).every(Boolean)) {
        this.fail(invalidFile(first!.describeFault()!))
      }
      // A bad file is read to its end, so that the error names every bad line, but it is not stored.
      if (this.#isSound()) this.#writer.push(chunk)
      if (this.#writer.sizeBytes > MAX_FILE_BYTES) this.fail(fileTooLarge())
    }
  }

  override async flush(): Promise<void> {
    if (this.error === null && this.#isSound()) await this.#writer.flush()
  }

  /** Whether the file may still be stored. */
  #isSound(): boolean {
    return this.#each(({ isSound }) => isSound).some(Boolean)
  }

  #each<T>(read: (reader: TrainingReader | BatchReader) => T): T[] {
    return Array.from(this.#readers.values(), read)
  }

  async finish(): Promise<UploadedFile> {
    if (this.#filename === null) throw missingField('file')
    if (!this.#isFileWhole) throw endNotReached()
    if (this.#purpose === null) throw missingField('purpose')
    // An unknown purpose has already failed the form.
    const reader = this.#readers.get(this.#purpose)!
    const fault = reader.describeFault()
    if (fault !== null) throw invalidFile(fault)
    await this.#writer.finish()
    return {
      filename: this.#filename,
      purpose: this.#purpose,
      sizeBytes: this.#writer.sizeBytes,
      numExamples: reader.numExamples,
    }
  }

  async abort(): Promise<void> {
    await this.#writer.abort()
  }
}

const invalidFile = (fault: string) => invalidRequest(fault, 'file', 'invalid_file')
const missingField = (name: string) =>
  invalidRequest(`Missing required parameter: '${name}'.`, name)
