import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from 'vitest'
import { applyMigrations, type Database } from '../../src/local/migrate.ts'

const FIRST = 'CREATE TABLE a (x integer);\n--> statement-breakpoint\nCREATE INDEX a_x ON a (x);'

let miniflare: Miniflare
let numDatabases = 0
let folder = ''
let database: Database

beforeAll(() => {
  // Real D1 in workerd; a database a test.
  const names = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`DB${i}`, `db-${i}`]))
  miniflare = new Miniflare(
    convertV4MiniflareOptions({
      modules: true,
      script: 'export default { fetch() { return new Response() } }',
      d1Databases: names,
      cf: false,
    }),
  )
})
afterAll(() => miniflare.dispose())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcana-migrations-'))
  database = await miniflare.getD1Database(`DB${numDatabases++}`)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const save = (name: string, sql: string): Promise<void> => writeFile(join(folder, name), sql)
async function tables(): Promise<string[]> {
  const sql = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
  const { results } = await database.prepare(sql).all()
  return (results as { name: string }[])
    .map(({ name }) => name)
    .filter((name) => !name.startsWith('_') && !name.startsWith('sqlite'))
}

describe('applyMigrations', () => {
  it('applies missing migrations once, in the order of their names', async ({ expect }) => {
    await save('0001_second.sql', 'ALTER TABLE a ADD COLUMN y integer;')
    await save('0000_first.sql', FIRST)
    await save('notes.txt', 'not sql')
    expect(await applyMigrations(database, folder)).toEqual(['0000_first.sql', '0001_second.sql'])
    expect(await applyMigrations(database, folder)).toEqual([])
    await save('0002_third.sql', 'CREATE TABLE b (x integer)')
    expect(await applyMigrations(database, folder)).toEqual(['0002_third.sql'])
    expect(await tables()).toEqual(['a', 'b', 'd1_migrations'])
  })

  it('leaves no trace of a failed migration', async ({ expect }) => {
    await save('0000_first.sql', 'CREATE TABLE a (x);\n--> statement-breakpoint\nCREATE NONSENSE;')
    await expect(applyMigrations(database, folder)).rejects.toThrow(/0000_first\.sql failed/)
    expect(await tables()).toEqual(['d1_migrations'])
    await save('0000_first.sql', FIRST)
    expect(await applyMigrations(database, folder)).toEqual(['0000_first.sql'])
  })

  it('agrees with wrangler’s own table', async ({ expect }) => {
    // As wrangler 4.124 creates it and records a migration.
    await database
      .prepare(
        'CREATE TABLE IF NOT EXISTS "d1_migrations"(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL);',
      )
      .run()
    await database.prepare("INSERT INTO d1_migrations (name) VALUES ('0000_first.sql')").run()
    await save('0000_first.sql', FIRST)
    expect(await applyMigrations(database, folder)).toEqual([])
  })

  it('refuses a database that a newer version made', async ({ expect }) => {
    await save('0000_first.sql', FIRST)
    await save('0001_later.sql', 'CREATE TABLE b (x)')
    await applyMigrations(database, folder)
    await rm(join(folder, '0001_later.sql'))
    await expect(applyMigrations(database, folder)).rejects.toThrow(/newer version: .*0001_later/)
  })
})
