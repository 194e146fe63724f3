import { and, eq, gte, inArray, lt, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import { USAGE_GROUPS, type UsageGroup } from '../protocol/openai/organization.ts'
import { keys, projects, usage, usageMinutes } from './schema.ts'

export type UsageRow = typeof usage.$inferInsert

/** Sums of one minute by key, route and model. */
export type UsageMinute = {
  /** Rolled up together, once. */
  readonly batch: string
  readonly minuteMs: number
  /** Empty for none. */
  readonly keyId: string
  readonly route: string
  readonly model: string
  readonly numRequests: number
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
}

/** Rolls up sums of a project's requests. Sums of a batch that is there already change nothing. */
export async function insertUsageMinutes(
  db: D1Database,
  projectId: string,
  minutes: readonly UsageMinute[],
): Promise<void> {
  const database = drizzle(db)
  const [first, ...others] = minutes.map((minute) =>
    database
      .insert(usageMinutes)
      .values({ ...minute, projectId })
      .onConflictDoNothing(),
  )
  if (first !== undefined) await database.batch([first, ...others])
}

/** Usage that an object has not rolled up. */
export type OpenUsage = UsageMinute & { readonly projectId: string }

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

const MINUTE_MS = 60_000
/** D1 binds at most 100 parameters. */
const MAX_PARAMS = 90

/**
 * Sums of a time's requests by bucket and group; buckets without requests are left out. Rolled up
 * usage is known by the minute, so the minute counts whole in which the time begins.
 * @param open what the projects' objects had not rolled up when they were asked, which must be before
 */
export async function sumUsageByTime(
  db: D1Database,
  query: UsageQuery,
  open: readonly OpenUsage[] = [],
): Promise<readonly UsageSum[]> {
  const database = drizzle(db)
  const groups = USAGE_GROUPS.filter((group) => query.groupBy.includes(group))
  const sums = (table: typeof usage | typeof usageMinutes) => {
    const isRolledUp = 'minuteMs' in table
    const time = isRolledUp ? table.minuteMs : table.createdAtMs
    const columns = { project_id: table.projectId, api_key_id: table.keyId, model: table.model }
    const shown = (group: UsageGroup) =>
      groups.includes(group) ? columns[group] : sql<null>`NULL`.as(group)
    const total = (column: SQLiteColumn) => sql<number>`sum(${column})`
    return database
      .select({
        bucketStartMs: sql<number>`${time} - ${time} % ${query.bucketMs}`.as('bucket_start_ms'),
        project_id: shown('project_id'),
        api_key_id: shown('api_key_id'),
        model: shown('model'),
        numRequests: isRolledUp ? total(table.numRequests) : sql<number>`count(*)`,
        promptTokens: total(table.promptTokens),
        cachedTokens: total(table.cachedTokens),
        completionTokens: total(table.completionTokens),
      })
      .from(table)
      .innerJoin(projects, eq(projects.id, table.projectId))
      .where(
        and(
          eq(projects.organizationId, query.organizationId),
          gte(time, isRolledUp ? minuteOf(query.startMs) : query.startMs),
          lt(time, query.endMs),
          query.projectIds && inArray(table.projectId, [...query.projectIds]),
          query.keyIds && inArray(table.keyId, [...query.keyIds]),
          query.models && inArray(table.model, [...query.models]),
        ),
      )
      .groupBy(sql`bucket_start_ms`, ...groups.map((group) => columns[group]))
  }
  const batches = [...new Set(open.map(({ batch }) => batch))]
  const chunks = Array.from({ length: Math.ceil(batches.length / MAX_PARAMS) }, (_, i) =>
    batches.slice(i * MAX_PARAMS, (i + 1) * MAX_PARAMS),
  )
  // One transaction: a batch is either in the sums or still to be added to them.
  const [old, rolledUp, ...found] = await database.batch([
    sums(usage),
    sums(usageMinutes),
    ...chunks.map((chunk) =>
      database
        .selectDistinct({ batch: usageMinutes.batch })
        .from(usageMinutes)
        .where(inArray(usageMinutes.batch, chunk)),
    ),
  ])
  const isCounted = new Set(found.flatMap((rows) => rows.map(({ batch }) => batch)))
  const rest = open
    .filter(({ batch }) => !isCounted.has(batch))
    .filter((row) => isAskedFor(row, query))
    .map(({ projectId, keyId, model, minuteMs, ...counts }): UsageSum => ({
      ...counts,
      bucketStartMs: minuteMs - (minuteMs % query.bucketMs),
      project_id: groups.includes('project_id') ? projectId : null,
      api_key_id: groups.includes('api_key_id') ? keyId : null,
      model: groups.includes('model') ? model : null,
    }))
  return addUp([...old, ...rolledUp, ...rest])
}

const minuteOf = (ms: number): number => ms - (ms % MINUTE_MS)

function isAskedFor(row: OpenUsage, query: UsageQuery): boolean {
  return (
    row.minuteMs >= minuteOf(query.startMs) &&
    row.minuteMs < query.endMs &&
    (query.keyIds?.includes(row.keyId) ?? true) &&
    (query.models?.includes(row.model) ?? true)
  )
}

/** Adds sums of the same bucket and group, in the order of their buckets. */
function addUp(sums: readonly UsageSum[]): readonly UsageSum[] {
  const byGroup = new Map<string, UsageSum>()
  for (const sum of sums) {
    const own = { ...sum, api_key_id: sum.api_key_id === '' ? null : sum.api_key_id }
    const key = JSON.stringify([own.bucketStartMs, own.project_id, own.api_key_id, own.model])
    const known = byGroup.get(key)
    byGroup.set(key, {
      ...own,
      numRequests: own.numRequests + (known?.numRequests ?? 0),
      promptTokens: own.promptTokens + (known?.promptTokens ?? 0),
      cachedTokens: own.cachedTokens + (known?.cachedTokens ?? 0),
      completionTokens: own.completionTokens + (known?.completionTokens ?? 0),
    })
  }
  return [...byGroup.values()].sort((a, b) => a.bucketStartMs - b.bucketStartMs)
}

/** Projects of an organisation whose keys were used since a time. */
export async function listUsedProjects(
  db: D1Database,
  { organizationId, projectIds }: Pick<UsageQuery, 'organizationId' | 'projectIds'>,
  sinceMs: number,
): Promise<readonly string[]> {
  const rows = await drizzle(db)
    .selectDistinct({ id: keys.projectId })
    .from(keys)
    .where(and(eq(keys.organizationId, organizationId), gte(keys.lastUsedAtMs, sinceMs)))
  const ids = rows.flatMap(({ id }) => (id === null ? [] : [id]))
  return projectIds === undefined ? ids : ids.filter((id) => projectIds.includes(id))
}
