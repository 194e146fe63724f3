import { and, asc, desc, eq } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import { following, type PageQuery } from './paging.ts'
import { files } from './schema.ts'

export type FileRow = typeof files.$inferSelect

/** A second insert of the same file changes nothing. */
export async function insertFile(db: D1Database, row: FileRow): Promise<void> {
  await drizzle(db).insert(files).values(row).onConflictDoNothing()
}

export async function findFile(
  db: D1Database,
  projectId: string,
  id: string,
): Promise<FileRow | null> {
  const rows = await drizzle(db)
    .select()
    .from(files)
    .where(and(eq(files.projectId, projectId), eq(files.id, id)))
  return rows[0] ?? null
}

/** @returns up to one row more than the limit; null where `after` names no file */
export async function listFiles(
  db: D1Database,
  projectId: string,
  page: PageQuery,
  purpose: string | undefined,
): Promise<readonly FileRow[] | null> {
  const cursor = page.after === undefined ? undefined : await findFile(db, projectId, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  return drizzle(db)
    .select()
    .from(files)
    .where(
      and(
        eq(files.projectId, projectId),
        purpose === undefined ? undefined : eq(files.purpose, purpose),
        cursor === undefined ? undefined : following(files, cursor, page.order),
      ),
    )
    .orderBy(by(files.createdAtMs), by(files.id))
    .limit(page.limit + 1)
}

/** @returns the deleted row; null where there was none */
export async function deleteFile(
  db: D1Database,
  projectId: string,
  id: string,
): Promise<FileRow | null> {
  const rows = await drizzle(db)
    .delete(files)
    .where(and(eq(files.projectId, projectId), eq(files.id, id)))
    .returning()
  return rows[0] ?? null
}
