import { DatabaseSync } from 'node:sqlite'

/**
 * Locks a folder for this process. The lock is SQLite's file lock. The system releases it when the
 * process ends, however it ends, so there are no stale locks.
 * @returns a function that releases the lock; null if another process holds it
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
