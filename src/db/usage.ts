import { and, eq, gte, inArray, lt, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import { USAGE_GROUPS, type UsageGroup } from '../protocol/openai/organization.ts'
import { projects, usage } from './schema.ts'

export type UsageRow = typeof usage.$inferInsert

/** Writes a usage row. This runs after the response, so a failure is only logged. */
export async function insertUsage(db: D1Database, row: UsageRow): Promise<void> {
  try {
    await drizzle(db).insert(usage).values(row).onConflictDoNothing()
  } catch (error) {
    console.error(
      JSON.stringify({ event: 'usage_lost', request_id: row.requestId, error: String(error) }),
    )
  }
}

/** A statement of D1 takes 100 values, and a row has 11. */
const ROWS_PER_INSERT = 9

/** Writes usage rows. A row that is there already changes nothing. @throws {Error} of D1 */
export async function insertUsageRows(db: D1Database, rows: readonly UsageRow[]): Promise<void> {
  const database = drizzle(db)
  const inserts = Array.from({ length: Math.ceil(rows.length / ROWS_PER_INSERT) }, (_, i) =>
    database
      .insert(usage)
      .values(rows.slice(i * ROWS_PER_INSERT, (i + 1) * ROWS_PER_INSERT))
      .onConflictDoNothing(),
  )
  const [first, ...others] = inserts
  if (first !== undefined) await database.batch([first, ...others])
}

export type UsageQuery = {
  readonly organizationId: string
  /** Milliseconds since the epoch; the end is outside. */
  readonly startMs: number
  readonly endMs: number
  readonly bucketMs: number
  /** What each bucket's sums are told apart by. */
  readonly groupBy: readonly UsageGroup[]
  readonly projectIds?: readonly string[] | undefined
  readonly keyIds?: readonly string[] | undefined
  readonly models?: readonly string[] | undefined
}

export type UsageSum = {
  readonly bucketStartMs: number
  readonly project_id: string | null
  readonly api_key_id: string | null
  readonly model: string | null
  readonly numRequests: number
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
}

/** Sums of a time's requests by bucket and group; buckets without requests are left out. */
export async function sumUsageByTime(
  db: D1Database,
  query: UsageQuery,
): Promise<readonly UsageSum[]> {
  const columns = { project_id: usage.projectId, api_key_id: usage.keyId, model: usage.model }
  const bucket = sql<number>`${usage.createdAtMs} - ${usage.createdAtMs} % ${query.bucketMs}`
  const groups = USAGE_GROUPS.filter((group) => query.groupBy.includes(group))
  const shown = (group: UsageGroup) =>
    groups.includes(group) ? columns[group] : sql<null>`NULL`.as(group)
  const total = (column: SQLiteColumn) => sql<number>`sum(${column})`
  return drizzle(db)
    .select({
      bucketStartMs: bucket.as('bucket_start_ms'),
      project_id: shown('project_id'),
      api_key_id: shown('api_key_id'),
      model: shown('model'),
      numRequests: sql<number>`count(*)`,
      promptTokens: total(usage.promptTokens),
      cachedTokens: total(usage.cachedTokens),
      completionTokens: total(usage.completionTokens),
    })
    .from(usage)
    .innerJoin(projects, eq(projects.id, usage.projectId))
    .where(
      and(
        eq(projects.organizationId, query.organizationId),
        gte(usage.createdAtMs, query.startMs),
        lt(usage.createdAtMs, query.endMs),
        query.projectIds && inArray(usage.projectId, [...query.projectIds]),
        query.keyIds && inArray(usage.keyId, [...query.keyIds]),
        query.models && inArray(usage.model, [...query.models]),
      ),
    )
    .groupBy(sql`bucket_start_ms`, ...groups.map((group) => columns[group]))
    .orderBy(sql`bucket_start_ms`)
}
