import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from 'vitest'
import { bootstrapStatements } from '../../src/db/bootstrap.ts'
import { applyMigrations, type Database } from '../../src/local/migrate.ts'

const MIGRATIONS = join(import.meta.dirname, '../../migrations')
const FIRST = 'CREATE TABLE a (x integer);\n--> statement-breakpoint\nCREATE INDEX a_x ON a (x);'

let miniflare: Miniflare
let numDatabases = 0
let folder = ''
let database: Database

beforeAll(() => {
  // Real D1 in workerd; a database a test.
  const names = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`DB${i}`, `db-${i}`]))
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

  it('notes what is live as promoted once', async ({ expect }) => {
    const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()
    const install = async (some: readonly string[]) => {
      for (const name of some) await copyFile(join(MIGRATIONS, name), join(folder, name))
      await applyMigrations(database, folder)
    }
    const life = names.find((name) => name.endsWith('_life.sql'))!
    await install(names.filter((name) => name < life))
    const columns = 'project_id, name, live_version, created_at_ms, updated_at_ms'
    await database.prepare(`INSERT INTO tasks (${columns}) VALUES ('p', 'a', 3, 1, 2)`).run()
    await database.prepare(`INSERT INTO tasks (${columns}) VALUES ('p', 'b', NULL, 1, 2)`).run()
    await install(names)
    expect((await database.prepare('SELECT * FROM promotions').all()).results).toEqual([
      {
        project_id: 'p',
        task: 'a',
        sequence: 1,
        version: 3,
        previous: null,
        cause: 'publish',
        created_at_ms: 2,
      },
    ])
    expect((await database.prepare('SELECT name, revision FROM tasks').all()).results).toEqual([
      { name: 'a', revision: 0 },
      { name: 'b', revision: 0 },
    ])
  })

  it('keeps the projects, keys and usage of a database without organisations', async ({
    expect,
  }) => {
    const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()
    const install = async (some: readonly string[]) => {
      for (const name of some) await copyFile(join(MIGRATIONS, name), join(folder, name))
      await applyMigrations(database, folder)
    }
    const all = async (sql: string) => (await database.prepare(sql).all()).results
    await install(names.filter((name) => name < '0003'))
    for (const sql of [
      "INSERT INTO projects VALUES ('local', 'local', 5)",
      "INSERT INTO keys VALUES ('h1', 'local', 'bootstrap', 6, NULL)",
      "INSERT INTO keys VALUES ('h2', 'local', 'old', 7, 8)",
      "INSERT INTO usage VALUES ('req_1', 'local', 9, 'compare', 'm', NULL, 'r', 10, 11)",
    ]) {
      await database.prepare(sql).run()
    }
    await install(names)
    expect(await all('SELECT * FROM projects')).toEqual([
      {
        id: 'local',
        organization_id: 'org-default',
        name: 'local',
        created_at_ms: 5,
        archived_at_ms: null,
        limits: '{}',
      },
    ])
    const scopes = '["inference","inference:priority","tasks:write"]'
    expect(await all('SELECT hash, project_id, scopes, revoked_at_ms FROM keys')).toEqual([
      { hash: 'h1', project_id: 'local', scopes, revoked_at_ms: null },
      { hash: 'h2', project_id: 'local', scopes, revoked_at_ms: 8 },
    ])
    const ids = (await all('SELECT id FROM keys')) as { id: string }[]
    expect(new Set(ids.map(({ id }) => id)).size).toBe(2)
    for (const { id } of ids) expect(id).toMatch(/^key_[0-9a-f]{24}$/)
    expect(await all('SELECT prompt_tokens, cached_tokens, key_id FROM usage')).toEqual([
      { prompt_tokens: 10, cached_tokens: 0, key_id: null },
    ])
    expect(await all('SELECT * FROM usage_minutes')).toEqual([])
    expect(await all('PRAGMA foreign_key_check')).toEqual([])
    // The next start makes the key that it is given an admin's, and leaves its id.
    const before = await all("SELECT id FROM keys WHERE hash = 'h1'")
    const statements = bootstrapStatements('local', 'h1')
    await database.batch(statements.map((s) => database.prepare(s.sql).bind(...s.params)))
    expect(await all("SELECT id FROM keys WHERE hash = 'h1'")).toEqual(before)
    expect(await all("SELECT scopes FROM keys WHERE hash = 'h1'")).toEqual([
      { scopes: '["inference","inference:priority","tasks:write","admin"]' },
    ])
    await expect(database.prepare("UPDATE keys SET project_id = 'none'").run()).rejects.toThrow(
      /FOREIGN KEY/,
    )
  })

  it('adds batches and keeps the files and jobs of an older database', async ({ expect }) => {
    const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()
    const install = async (some: readonly string[]) => {
      for (const name of some) await copyFile(join(MIGRATIONS, name), join(folder, name))
      await applyMigrations(database, folder)
    }
    const all = async (sql: string) => (await database.prepare(sql).all()).results
    await install(
      names.slice(
        0,
        names.findIndex((name) => name.includes('batches')),
      ),
    )
    for (const sql of [
      "INSERT INTO files (project_id, id, filename, purpose, size_bytes, num_examples, blob_key, created_at_ms) VALUES ('p', 'f', 'a', 'fine-tune', 1, 2, 'k', 3)",
      "INSERT INTO jobs (project_id, id, status, object, revision, created_at_ms) VALUES ('p', 'j', 'running', '{}', 4, 5)",
    ]) {
      await database.prepare(sql).run()
    }
    await install(names)
    expect(await all('SELECT id, num_examples FROM files')).toEqual([{ id: 'f', num_examples: 2 }])
    expect(await all('SELECT id, revision FROM jobs')).toEqual([{ id: 'j', revision: 4 }])
    await database.prepare("INSERT INTO batches VALUES ('p', 'b', '{}', 1, 2)").run()
    expect(await all('SELECT id FROM batches')).toEqual([{ id: 'b' }])
  })

  it('gives the tasks of an older database the base model of their versions', async ({
    expect,
  }) => {
    const names = (await readdir(MIGRATIONS)).filter((name) => name.endsWith('.sql')).sort()
    const install = async (some: readonly string[]) => {
      for (const name of some) await copyFile(join(MIGRATIONS, name), join(folder, name))
      await applyMigrations(database, folder)
    }
    await install(
      names.slice(
        0,
        names.findIndex((name) => name.includes('models')),
      ),
    )
    const version = (task: string, number: number, model: string) =>
      'INSERT INTO versions (project_id, task, number, digest, model, model_digest, scope, layers, ' +
      'position, report_key, job_id, created_at_ms) VALUES ' +
      `('p', '${task}', ${number}, 'd', '${model}', 'e', 'all', '[]', 'before', 'r', '${task}${number}', 1)`
    for (const sql of [
      "INSERT INTO tasks (project_id, name, live_version, created_at_ms, updated_at_ms) VALUES ('p', 'live', 1, 1, 1)",
      "INSERT INTO tasks (project_id, name, live_version, created_at_ms, updated_at_ms) VALUES ('p', 'none', NULL, 1, 1)",
      version('live', 1, 'a'),
      version('live', 2, 'b'),
      version('none', 1, 'a'),
      version('none', 2, 'b'),
    ]) {
      await database.prepare(sql).run()
    }
    await install(names)
    const { results } = await database.prepare('SELECT name, model FROM tasks ORDER BY name').all()
    expect(results).toEqual([
      { name: 'live', model: 'a' },
      { name: 'none', model: 'b' },
    ])
  })
})
