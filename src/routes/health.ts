import { Hono } from 'hono'
import journal from '../../migrations/meta/_journal.json'
import type { AppEnv } from '../context.ts'
import { ApiError } from '../protocol/openai/error.ts'

const NEWEST_MIGRATION = `${journal.entries.at(-1)?.tag ?? ''}.sql`
const RETRY_AFTER_SECONDS = 1

/** `GET /healthz` says, without a key, whether the gateway can serve requests. */
export const health = new Hono<AppEnv>()
/** Databases that have this release's schema. A schema never goes back. */
const ready = new WeakSet<D1Database>()

health.get('/', async (c) => {
  if (!ready.has(c.env.DB)) {
    if (!(await isMigrated(c.env.DB))) {
      throw new ApiError(503, 'The database is not set up yet.', {
        code: 'not_ready',
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    }
    ready.add(c.env.DB)
  }
  return c.json({ status: 'ok' })
})

/** Reads wrangler's table of applied migrations, which `npm start` writes too. */
async function isMigrated(database: D1Database): Promise<boolean> {
  try {
    const found = await database
      .prepare('SELECT 1 FROM d1_migrations WHERE name = ?')
      .bind(NEWEST_MIGRATION)
      .first()
    return found !== null
  } catch {
    return false
  }
}
