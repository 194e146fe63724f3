/** The order in which versions of a task went live; a rollback goes back in it. */
import type { promotions } from './schema.ts'

export type Promotion = Readonly<typeof promotions.$inferSelect>

/** A rollback looks at this many promotions for one whose version can still go live. */
const MAX_STEPS_BACK = 100

/**
 * The statement that notes that a version goes live. It belongs in one batch with the statement that
 * changes `tasks.live_version`, before it.
 * @param version a number, or an SQL expression over ?1 (project) and ?2 (task)
 * @param previous the promotion that a rollback goes back to; by default the one that is in force
 */
export function recordPromotion(
  db: D1Database,
  promotion: {
    readonly projectId: string
    readonly task: string
    readonly version: number | `(SELECT ${string})`
    readonly nowMs: number
    readonly cause: Promotion['cause']
    readonly previous?: number | null
    /** Notes nothing if this job has published already, or the task is of another base model. */
    readonly publishes?: { readonly jobId: string; readonly model: string }
    /** Notes nothing unless this version is live, and the other one can go live. */
    readonly ifLive?: number | null
  },
): D1PreparedStatement {
  const { projectId, task, version, nowMs, cause, previous, publishes, ifLive } = promotion
  const last = 'SELECT max(sequence) FROM promotions WHERE project_id = ?1 AND task = ?2'
  const condition =
    ifLive === undefined
      ? `NOT EXISTS (SELECT 1 FROM versions WHERE job_id = ?5) AND NOT EXISTS (
          SELECT 1 FROM tasks WHERE project_id = ?1 AND name = ?2 AND model <> ?6
            AND deleted_at_ms IS NULL)`
      : `EXISTS (SELECT 1 FROM tasks WHERE ${canGoLive(String(version), '?5')})`
  return db
    .prepare(
      `INSERT INTO promotions (project_id, task, sequence, version, previous, cause, created_at_ms)
       SELECT ?1, ?2, 1 + coalesce((${last}), 0), ${version},
         ${previous === undefined ? `(${last})` : String(previous ?? 'NULL')}, ?3, ?4
       WHERE ${condition}`,
    )
    .bind(
      ...[projectId, task, cause, nowMs],
      ...(ifLive === undefined ? [publishes?.jobId ?? null, publishes?.model ?? ''] : [ifLive]),
    )
}

/** The condition on a row of `tasks` (?1 project, ?2 name) under which a version may go live. */
export const canGoLive = (version: string, expectedLive: string): string =>
  `project_id = ?1 AND name = ?2 AND live_version IS ${expectedLive} AND deleted_at_ms IS NULL
   AND ${version} > retired_through
   AND EXISTS (SELECT 1 FROM versions WHERE project_id = ?1 AND task = ?2 AND number = ${version}
     AND retires_at_ms IS NULL)`

/**
 * The promotions that rollbacks of the one in force go back to, nearest first. A promotion points at the
 * one before it, so versions that were rolled back are passed over.
 */
export async function listPrevious(
  db: D1Database,
  projectId: string,
  task: string,
): Promise<readonly Pick<Promotion, 'version' | 'previous'>[]> {
  const { results } = await db
    .prepare(
      `WITH RECURSIVE back(sequence, version, previous, step) AS (
         SELECT sequence, version, previous, 0 FROM promotions
           WHERE project_id = ?1 AND task = ?2 AND sequence =
             (SELECT max(sequence) FROM promotions WHERE project_id = ?1 AND task = ?2)
         UNION ALL
         SELECT p.sequence, p.version, p.previous, step + 1 FROM back
           JOIN promotions AS p ON p.project_id = ?1 AND p.task = ?2 AND p.sequence = back.previous
           WHERE step < ${MAX_STEPS_BACK})
       SELECT version, previous FROM back WHERE step > 0 ORDER BY step`,
    )
    .bind(projectId, task)
    .all<Pick<Promotion, 'version' | 'previous'>>()
  return results
}
