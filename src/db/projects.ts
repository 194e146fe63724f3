import { and, asc, desc, eq, isNull } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import { following, type PageQuery } from './paging.ts'
import { projects } from './schema.ts'

export type ProjectRow = typeof projects.$inferSelect

export async function insertProject(db: D1Database, row: ProjectRow): Promise<void> {
  await drizzle(db).insert(projects).values(row)
}

export async function findProject(
  db: D1Database,
  organizationId: string,
  id: string,
): Promise<ProjectRow | null> {
  const rows = await drizzle(db)
    .select()
    .from(projects)
    .where(and(eq(projects.organizationId, organizationId), eq(projects.id, id)))
  return rows[0] ?? null
}

/** @returns up to one row more than the limit; null where `after` names no project */
export async function listProjects(
  db: D1Database,
  organizationId: string,
  page: PageQuery,
  withArchived: boolean,
): Promise<readonly ProjectRow[] | null> {
  const cursor =
    page.after === undefined ? undefined : await findProject(db, organizationId, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  return drizzle(db)
    .select()
    .from(projects)
    .where(
      and(
        eq(projects.organizationId, organizationId),
        withArchived ? undefined : isNull(projects.archivedAtMs),
        cursor === undefined ? undefined : following(projects, cursor, page.order),
      ),
    )
    .orderBy(by(projects.createdAtMs), by(projects.id))
    .limit(page.limit + 1)
}

/** @returns the project as it is now; null where it is not there or is archived */
export async function updateProject(
  db: D1Database,
  organizationId: string,
  id: string,
  change: Partial<Pick<ProjectRow, 'name' | 'archivedAtMs' | 'limits'>>,
): Promise<ProjectRow | null> {
  const rows = await drizzle(db)
    .update(projects)
    .set(change)
    .where(
      and(
        eq(projects.organizationId, organizationId),
        eq(projects.id, id),
        isNull(projects.archivedAtMs),
      ),
    )
    .returning()
  return rows[0] ?? null
}
