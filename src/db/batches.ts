import { and, asc, desc, eq } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { Batch } from '../protocol/openai/batches.ts'
import { following, type PageQuery } from './paging.ts'
import { batches } from './schema.ts'

/** Writes a batch's row from its Durable Object. A copy older than the row changes nothing. */
export async function upsertBatch(
  db: D1Database,
  batch: {
    readonly projectId: string
    readonly object: Batch
    readonly revision: number
    readonly createdAtMs: number
  },
): Promise<void> {
  const { projectId, object, revision, createdAtMs } = batch
  await db
    .prepare(
      `INSERT INTO batches (project_id, id, object, revision, created_at_ms)
       VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (project_id, id) DO UPDATE SET
         object = excluded.object, revision = excluded.revision
       WHERE excluded.revision > batches.revision`,
    )
    .bind(projectId, object.id, JSON.stringify(object), revision, createdAtMs)
    .run()
}

export async function findBatch(db: D1Database, projectId: string, id: string) {
  const rows = await drizzle(db)
    .select()
    .from(batches)
    .where(and(eq(batches.projectId, projectId), eq(batches.id, id)))
  return rows[0] ?? null
}

/** @returns up to one batch more than the limit; null where `after` names no batch */
export async function listBatches(
  db: D1Database,
  projectId: string,
  page: PageQuery,
): Promise<readonly Batch[] | null> {
  const cursor = page.after === undefined ? undefined : await findBatch(db, projectId, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  const rows = await drizzle(db)
    .select({ object: batches.object })
    .from(batches)
    .where(
      and(
        eq(batches.projectId, projectId),
        cursor === undefined ? undefined : following(batches, cursor, page.order),
      ),
    )
    .orderBy(by(batches.createdAtMs), by(batches.id))
    .limit(page.limit + 1)
  return rows.map(({ object }) => JSON.parse(object) as Batch)
}
