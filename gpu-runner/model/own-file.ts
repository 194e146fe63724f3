import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { CATALOGUE } from './catalogue.ts'

const READ_CHUNK_BYTES = 1 << 20
const SLUG_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/

/**
 * The digest of a GGUF file that the catalogue does not have.
 * @param slug what it is served as: a name that means no other model
 * @returns SHA-256, lower-case hex
 * @throws {Error} a slug that is not a name of its own, or a file that cannot be read
 */
export async function digestOfOwnFile(path: string, slug: string): Promise<string> {
  if (CATALOGUE.has(slug)) {
    throw new Error(`ARCANA_MODEL_FILE needs a name of its own in ARCANA_MODEL, not ${slug}`)
  }
  if (!SLUG_PATTERN.test(slug)) {
    throw new Error(`ARCANA_MODEL must be lower-case letters, digits, ".", "_" or "-", not ${slug}`)
  }
  const hash = createHash('sha256')
  const stream = createReadStream(path, { highWaterMark: READ_CHUNK_BYTES })
  for await (const chunk of stream as AsyncIterable<Uint8Array>) hash.update(chunk)
  return hash.digest('hex')
}
