import { DatabaseSync } from 'node:sqlite'

/**
 * Holds a folder for this process. The lock is SQLite's own file lock, which the system drops with
 * the process, however it ends: there is no stale lock to clean up.
 * @returns null where another process holds it; otherwise a function that lets go
 */
export function lockHome(path: string): (() => void) | null {
  const database = new DatabaseSync(path)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch {
    database.close()
    return null
  }
  return () => {
    database.close()
  }
}
