import { decodeField, type PartInfo } from 'multipasta'
import { MAX_ADAPTER_BYTES } from '../../adapters/format/limits.ts'
import type { Disposition } from '../files/disposition.ts'
import {
  endNotReached,
  malformedUpload,
  MultipartForm,
  receiveMultipart,
  unknownField,
} from '../files/multipart.ts'
import { joinChunks } from '../bytes/join-chunks.ts'
import { bodyTooLarge } from '../http/read-json.ts'
import {
  adapterFormatSchema,
  uploadedVersionSchema,
  type AdapterFormat,
  type UploadedVersion,
} from '../protocol/arcana/tasks.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { parseWire } from '../protocol/parse.ts'

const MAX_FIELD_BYTES = 512 * 1024
/** The adapter and the rest of the form. */
const MAX_UPLOAD_BYTES = MAX_ADAPTER_BYTES + 2 * MAX_FIELD_BYTES

export type AdapterUpload = {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly format: AdapterFormat
  readonly version: UploadedVersion
}

/**
 * Reads the multipart form of an adapter: `file`, and optionally `format` and the JSON field
 * `version`.
 * @throws {ApiError} 400 naming the field, 413 past the limit
 */
export async function receiveAdapter(
  request: Request,
  pause?: () => Promise<void>,
): Promise<AdapterUpload> {
  const form = new AdapterForm()
  const limits = {
    maxBytes: MAX_UPLOAD_BYTES,
    maxFieldBytes: MAX_FIELD_BYTES,
    tooLarge: () => bodyTooLarge(MAX_UPLOAD_BYTES),
  }
  await receiveMultipart(request, form, limits, pause)
  return form.finish()
}

class AdapterForm extends MultipartForm {
  readonly #fields = new Map<string, string>()
  #chunks: Uint8Array[] | null = null
  #isFileWhole = false

  takeField(part: Disposition | null, info: PartInfo, value: Uint8Array): void {
    if (part === null) this.fail(malformedUpload())
    else if (part.name === 'file') this.fail(noFile())
    else if ((part.name === 'format' || part.name === 'version') && !this.#fields.has(part.name)) {
      this.#fields.set(part.name, decodeField(info, value))
    } else this.fail(unknownField(part.name))
  }

  takeFile(part: Disposition | null): (chunk: Uint8Array | null) => void {
    if (part?.name !== 'file' || this.#chunks !== null) {
      this.fail(part === null ? malformedUpload() : unknownField(part.name))
      return () => undefined
    }
    const chunks: Uint8Array[] = []
    this.#chunks = chunks
    return (chunk) => {
      if (chunk === null) this.#isFileWhole = true
      else chunks.push(chunk.slice())
    }
  }

  finish(): AdapterUpload {
    if (this.#chunks === null) throw noFile()
    if (!this.#isFileWhole) throw endNotReached()
    return {
      bytes: joinChunks(this.#chunks),
      format: parseWire(adapterFormatSchema, this.#fields.get('format') ?? 'arcana', 'format'),
      version: parseWire(uploadedVersionSchema, this.#readVersion(), 'version'),
    }
  }

  #readVersion(): unknown {
    const text = this.#fields.get('version')
    if (text === undefined) return {}
    try {
      return JSON.parse(text)
    } catch {
      throw invalidRequest("Invalid 'version': it is not JSON.", 'version', 'invalid_json')
    }
  }
}

const noFile = () => invalidRequest("Missing required parameter: 'file', sent as a file.", 'file')
