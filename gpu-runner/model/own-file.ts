import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { CATALOGUE } from './catalogue.ts'

const READ_CHUNK_BYTES = 1 << 20
const SLUG_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/

/**
 * The digest of a GGUF file that is not in the catalogue.
 * @param slug the name under which the file is served; no model of the catalogue may have it
 * @returns SHA-256, lower-case hex
 * @throws {Error} a slug that is taken or malformed, or a file that cannot be read
 */
export async function digestOfOwnFile(path: string, slug: string): Promise<string> {
  if (CATALOGUE.has(slug)) {
    throw new Error(
      `ARCANA_MODEL_FILE needs a new name in ARCANA_MODEL, not the catalogue's ${slug}`,
    )
  }
  if (!SLUG_PATTERN.test(slug)) {
    throw new Error(`ARCANA_MODEL must be lower-case letters, digits, ".", "_" or "-", not ${slug}`)
  }
  const hash = createHash('sha256')
  const stream = createReadStream(path, { highWaterMark: READ_CHUNK_BYTES })
  for await (const chunk of stream as AsyncIterable<Uint8Array>) hash.update(chunk)
  return hash.digest('hex')
}
