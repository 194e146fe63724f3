import { createHash, randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'

/** 192 bits, which nobody can guess. */
const KEY_BYTES = 24
const OWNER_ONLY = 0o600

/**
 * Reads the API key from a file, or makes one on the first start.
 * @throws {Error} the file exists but is unreadable or empty
 */
export async function readOrCreateKey(path: string): Promise<string> {
  const key = `sk-arcana-${randomBytes(KEY_BYTES).toString('base64url')}`
  try {
    await writeFile(path, `${key}\n`, { mode: OWNER_ONLY, flag: 'wx' })
    return key
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const kept = (await readFile(path, 'utf8')).trim()
  if (kept === '') throw new Error(`${path} is empty; delete it to have a new key made`)
  await chmod(path, OWNER_ONLY)
  return kept
}

/** The form in which the gateway stores a key: its SHA-256 in lower-case hex. */
export function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}
