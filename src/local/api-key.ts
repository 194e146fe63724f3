import { createHash, randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'

/** 192 bits: beyond guessing. */
const KEY_BYTES = 24
const OWNER_ONLY = 0o600

/**
 * The key kept in a file, made on the first start.
 * @throws {Error} the file is there but cannot be read or is empty
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

/** What the gateway stores of a key: SHA-256, lower-case hex. */
export function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}
