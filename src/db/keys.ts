import { and, eq, isNull } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import { keys } from './schema.ts'

/** @returns null for an unknown or revoked key */
export async function findProjectOfKey(db: D1Database, hash: string): Promise<string | null> {
  const rows = await drizzle(db)
    .select({ projectId: keys.projectId })
    .from(keys)
    .where(and(eq(keys.hash, hash), isNull(keys.revokedAtMs)))
    .limit(1)
  return rows[0]?.projectId ?? null
}
