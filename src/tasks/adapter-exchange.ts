import { zipSync } from 'fflate'
import { decodeAdapter } from '../../adapters/format/decode.ts'
import { encodeAdapter } from '../../adapters/format/encode.ts'
import { MAX_ADAPTER_BYTES } from '../../adapters/format/limits.ts'
import type { AdapterFile } from '../../adapters/format/schema.ts'
import {
  exportPeftOft,
  importPeftOft,
  PEFT_CONFIG_FILE,
  PEFT_WEIGHTS_FILE,
  type PeftFiles,
} from '../../adapters/interchange/peft-oft.ts'
import type { Geometry } from '../../adapters/rotation/rotation.ts'
import { unzipWanted } from '../files/zip.ts'
import type { AdapterFormat } from '../protocol/arcana/tasks.ts'
import { ApiError, invalidField, invalidRequest } from '../protocol/openai/error.ts'

/** A PEFT config has about two kilobytes. */
const MAX_CONFIG_BYTES = 64 * 1024
/** A folder that PEFT saves has three or four files. */
const MAX_ZIP_ENTRIES = 64
/** A fixed time, so that equal adapters give equal archives: the earliest day of the zip format. */
const ZIP_TIME = new Date(1980, 0, 1)

/** The served base model, for which an uploaded adapter must have been learnt. */
export type AdapterModel = {
  readonly slug: string
  readonly modelDigest: string
  readonly geometry: Geometry
}

/**
 * Reads an uploaded adapter in either format, and checks that it was learnt on the served model.
 * @returns the adapter and the bytes to store: the file itself, or the file into which PEFT's folder
 * was converted
 * @throws {ApiError} 400 saying what is wrong with the file
 */
export async function readUploadedAdapter(
  bytes: Uint8Array<ArrayBuffer>,
  format: AdapterFormat,
  model: AdapterModel,
): Promise<{ readonly file: AdapterFile; readonly bytes: Uint8Array<ArrayBuffer> }> {
  if (format === 'peft') {
    const imported = importPeftOft(await readPeftZip(bytes), model)
    if (!imported.ok) {
      const { message, reason } = imported.error
      throw invalidField('file', message, reason)
    }
    return { file: imported.value, bytes: encodeAdapter(imported.value) }
  }
  const decoded = decodeAdapter(bytes, model.geometry)
  if (!decoded.ok) {
    throw invalidField('file', decoded.error.message, decoded.error.reason)
  }
  if (decoded.value.modelDigest !== model.modelDigest) {
    throw invalidField(
      'file',
      `it was learnt on base model ${decoded.value.modelDigest}; ` +
        `${model.slug} is ${model.modelDigest}`,
      'adapter_wrong_model',
    )
  }
  return { file: decoded.value, bytes }
}

/**
 * Writes a stored adapter as a zipped PEFT folder.
 * @throws {ApiError} 400 if PEFT's OFT cannot express it; 500 if the stored file is unreadable
 */
export function toPeftZip(bytes: Uint8Array, baseModel: string): Uint8Array<ArrayBuffer> {
  const decoded = decodeAdapter(bytes)
  if (!decoded.ok) {
    throw new ApiError(500, `The stored adapter is unreadable: ${decoded.error.message}.`)
  }
  const exported = exportPeftOft(decoded.value, baseModel)
  if (!exported.ok) {
    const { message, reason } = exported.error
    throw invalidRequest(`This adapter cannot be given as PEFT: ${message}.`, 'format', reason)
  }
  const { config, weights } = exported.value
  const files = { [PEFT_CONFIG_FILE]: config, [PEFT_WEIGHTS_FILE]: weights }
  return new Uint8Array(zipSync(files, { mtime: ZIP_TIME }))
}

/** Reads the two files of a zipped PEFT folder, at the archive's top or inside a folder. */
async function readPeftZip(bytes: Uint8Array): Promise<PeftFiles> {
  const bad = (what: string) => invalidField('file', what, 'invalid_zip')
  const limits = new Map([
    [PEFT_CONFIG_FILE, MAX_CONFIG_BYTES],
    [PEFT_WEIGHTS_FILE, MAX_ADAPTER_BYTES],
  ])
  const found = new Map<string, Uint8Array>()
  const baseName = (path: string) => path.slice(path.lastIndexOf('/') + 1)
  const seen = new Set<string>()
  const limitOf = (path: string): number | null => {
    const name = baseName(path)
    const limit = limits.get(name)
    if (limit === undefined) return null
    // Refused before any is inflated: inflating many costs as much as one that is too large.
    if (seen.has(name)) throw bad(`it holds ${name} more than once`)
    seen.add(name)
    return limit
  }
  const unzipped = await unzipWanted(bytes, limitOf, MAX_ZIP_ENTRIES)
  if (!unzipped.ok) {
    const { reason, message } = unzipped.error
    throw bad(reason === 'not_zip' ? 'it is not a zip archive of a PEFT folder' : message)
  }
  for (const { path, bytes: file } of unzipped.value) found.set(baseName(path), file)
  const find = (wanted: string): Uint8Array => {
    const file = found.get(wanted)
    if (file === undefined) throw bad(`it holds no ${wanted}`)
    return file
  }
  return { config: find(PEFT_CONFIG_FILE), weights: find(PEFT_WEIGHTS_FILE) }
}
