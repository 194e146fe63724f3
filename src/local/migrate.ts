import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * The part of a D1 binding that migrations need. Miniflare's and workerd's bindings both have it.
 */
export interface Database {
  prepare(sql: string): Statement
  batch(statements: Statement[]): Promise<unknown>
}
export interface Statement {
  bind(...values: (string | number)[]): Statement
  all(): Promise<{ results: unknown[] }>
  run(): Promise<unknown>
}

/** wrangler's own table, so that `wrangler d1 migrations` knows what has been applied. */
const CREATE_TABLE = `CREATE TABLE IF NOT EXISTS "d1_migrations" (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT UNIQUE,
  applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)`
/** drizzle-kit's mark between statements. */
const BREAKPOINT = '--> statement-breakpoint'

/**
 * Applies those of a folder's migrations that the database lacks, in the order of their names. Each
 * is applied as a whole or not at all.
 * @returns the names of the migrations applied now
 * @throws {Error} a migration fails, or the database has one that the folder does not have
 */
export async function applyMigrations(database: Database, folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  await database.prepare(CREATE_TABLE).run()
  const { results } = await database.prepare('SELECT name FROM d1_migrations ORDER BY id').all()
  const applied = new Set((results as { name: string }[]).map(({ name }) => name))
  const unknown = [...applied].filter((name) => !names.includes(name))
  if (unknown.length > 0) {
    throw new Error(`the database was made by a newer version: it has ${unknown.join(', ')}`)
  }
  const pending = names.filter((name) => !applied.has(name))
  for (const name of pending) {
    const sql = await readFile(join(folder, name), 'utf8')
    const statements = sql
      .split(BREAKPOINT)
      .map((statement) => statement.trim())
      .filter((statement) => statement !== '')
    const record = database.prepare('INSERT INTO d1_migrations (name) VALUES (?)').bind(name)
    try {
      // A batch is one transaction.
      await database.batch([...statements.map((statement) => database.prepare(statement)), record])
    } catch (error) {
      throw new Error(`migration ${name} failed: ${(error as Error).message}`, { cause: error })
    }
  }
  return pending
}
