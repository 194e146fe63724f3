import { and, asc, desc, eq, gt, inArray, isNull, lt } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { PageQuery } from './paging.ts'
import { canGoLive, recordPromotion } from './promotions.ts'
import { tasks } from './schema.ts'

export type TaskRow = typeof tasks.$inferSelect

/** @returns null for an unknown or deleted task */
export async function findTask(
  db: D1Database,
  projectId: string,
  name: string,
): Promise<TaskRow | null> {
  const rows = await drizzle(db)
    .select()
    .from(tasks)
    .where(and(eq(tasks.projectId, projectId), eq(tasks.name, name), isNull(tasks.deletedAtMs)))
  return rows[0] ?? null
}

/**
 * Tasks in order of their names, so that a page goes on where the last one ended even if that task was
 * deleted meanwhile.
 * @param page `after` is a task's name
 * @param models the base models whose tasks are listed; all by default
 * @returns up to one row more than the limit
 */
export async function listTasks(
  db: D1Database,
  projectId: string,
  page: PageQuery,
  models?: readonly string[],
): Promise<readonly TaskRow[]> {
  const [by, past] = page.order === 'asc' ? [asc, gt] : [desc, lt]
  return drizzle(db)
    .select()
    .from(tasks)
    .where(
      and(
        eq(tasks.projectId, projectId),
        isNull(tasks.deletedAtMs),
        page.after === undefined ? undefined : past(tasks.name, page.after),
        models === undefined ? undefined : inArray(tasks.model, models),
      ),
    )
    .orderBy(by(tasks.name))
    .limit(page.limit + 1)
}

/**
 * Makes a version live if the live one is still `expectedLive`, in one transaction.
 * @returns false where another version is live, where the task or the version does not exist, and
 * where the version is retired
 */
export async function promoteVersion(
  db: D1Database,
  promotion: {
    readonly projectId: string
    readonly name: string
    readonly version: number
    /** Null where no version is live. */
    readonly expectedLive: number | null
    readonly nowMs: number
    /** What a rollback takes over from the promotion that it goes back to. */
    readonly rollback?: { readonly previous: number | null }
  },
): Promise<boolean> {
  const { projectId, name, version, expectedLive, nowMs, rollback } = promotion
  const results = await db.batch([
    recordPromotion(db, {
      projectId,
      task: name,
      version,
      nowMs,
      cause: rollback === undefined ? 'promote' : 'rollback',
      ifLive: expectedLive,
      ...(rollback === undefined ? {} : { previous: rollback.previous }),
    }),
    db
      .prepare(
        `UPDATE tasks SET live_version = ?3, updated_at_ms = ?5 WHERE ${canGoLive('?3', '?4')}`,
      )
      .bind(projectId, name, version, expectedLive, nowMs),
  ])
  return results[1]!.meta.changes === 1
}

/**
 * Removes a task and retires all its versions, in one statement. Their rows stay, so that no number
 * is used twice, and so that a job's repeated step still finds the version that it published.
 * @returns false where the task does not exist
 */
export async function deleteTask(
  db: D1Database,
  projectId: string,
  name: string,
  nowMs: number,
): Promise<boolean> {
  const result = await db
    .prepare(
      `UPDATE tasks SET live_version = NULL, deleted_at_ms = ?3, updated_at_ms = ?3,
         retired_through = coalesce(
           (SELECT max(number) FROM versions WHERE project_id = ?1 AND task = ?2), retired_through)
       WHERE project_id = ?1 AND name = ?2 AND deleted_at_ms IS NULL`,
    )
    .bind(projectId, name, nowMs)
    .run()
  return result.meta.changes === 1
}
