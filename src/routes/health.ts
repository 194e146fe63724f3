import { Hono } from 'hono'
import journal from '../../migrations/meta/_journal.json'
import type { AppEnv } from '../context.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { servicesOf } from '../services.ts'
import { servedModels } from '../tasks/requested-model.ts'

const NEWEST_MIGRATION = `${journal.entries.at(-1)?.tag ?? ''}.sql`
const RETRY_AFTER_SECONDS = 1

/**
 * `GET /healthz` says, without a key, whether the gateway can serve requests, and how many runners of
 * each base model take requests now. A gateway whose runners are gone is still up, so it answers 200.
 */
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
  const { config, runners } = servicesOf(c.env)
  const models = await Promise.all(
    servedModels(config).map(async (id) => ({
      id,
      ready_runners: await countReady(runners, id),
    })),
  )
  return c.json({ status: 'ok', models })
})

async function countReady(runners: RunnerPool, model: string): Promise<number> {
  const wish = { kind: 'generate', model, modelDigest: null, adapters: [] } as const
  const choice = await runners.choose(wish)
  return choice.kind === 'ranked' ? choice.runners.length : 0
}

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
