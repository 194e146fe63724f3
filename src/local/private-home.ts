import { chmod, lstat, mkdir, mkdtemp, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Only the owner may use files that this process and its children make. */
export const OWNER_ONLY_UMASK = 0o077
const OTHERS = 0o077
/** A unix socket's path has at most 104 to 108 bytes, so this leaves 16 for the socket's name. */
const MAX_SOCKET_DIR_BYTES = 88

/**
 * Makes a folder and everything in it private to the owner. It leaves links, and what they point
 * to, as they are.
 * @returns how many files and folders were open to other users
 * @throws {Error} one of them belongs to another user
 */
export async function makePrivate(path: string): Promise<number> {
  const entry = await lstat(path).catch((error: unknown) => {
    // It has gone since it was listed.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  })
  if (entry === null || entry.isSymbolicLink()) return 0
  let numMended = 0
  if ((entry.mode & OTHERS) !== 0) {
    await chmod(path, entry.mode & 0o7777 & ~OTHERS)
    numMended += 1
  }
  if (!entry.isDirectory()) return numMended
  for (const name of await readdir(path)) numMended += await makePrivate(join(path, name))
  return numMended
}

/** A folder for sockets: the preferred one, or a temporary one if that path is too long. */
export async function chooseSocketDir(preferred: string): Promise<string> {
  if (Buffer.byteLength(preferred) <= MAX_SOCKET_DIR_BYTES) return preferred
  const folder = join(await mkdtemp(join(tmpdir(), 'arcana-')), 'sockets')
  await mkdir(folder, { mode: 0o700 })
  return folder
}
