import { drizzle } from 'drizzle-orm/d1'
import { usage } from './schema.ts'

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
