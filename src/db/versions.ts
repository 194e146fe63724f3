import { and, desc, eq, gt, isNotNull, isNull } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import { ApiError } from '../protocol/openai/error.ts'
import { versions } from './schema.ts'

export type Version = Readonly<typeof versions.$inferSelect>
/** A version that has no number yet. */
export type NewVersion = Omit<Version, 'number' | 'corruptAtMs'>

export const TASK_OF_OTHER_MODEL = 'task_of_other_model'

/** A task gets no version of another base model than its own. */
export class TaskOfOtherModel extends ApiError {
  constructor(task: string, model: string, param: string | null = null) {
    super(
      409,
      `The task "${task}" belongs to another base model than ${model}. ` +
        'Choose another name, or delete that task first.',
      { param, code: TASK_OF_OTHER_MODEL },
    )
  }
}

export async function findVersion(
  db: D1Database,
  projectId: string,
  task: string,
  number: number,
): Promise<Version | null> {
  const rows = await drizzle(db)
    .select()
    .from(versions)
    .where(
      and(eq(versions.projectId, projectId), eq(versions.task, task), eq(versions.number, number)),
    )
  return rows[0] ?? null
}

/** A task's versions, newest first, without those of a deleted task of the same name. */
export async function listVersions(
  db: D1Database,
  projectId: string,
  task: string,
  retiredThrough: number,
): Promise<readonly Version[]> {
  return drizzle(db)
    .select()
    .from(versions)
    .where(
      and(
        eq(versions.projectId, projectId),
        eq(versions.task, task),
        gt(versions.number, retiredThrough),
      ),
    )
    .orderBy(desc(versions.number))
}

/**
 * Adds a job's version under the task's next number and makes it live, in one transaction. A second
 * call for the same job changes neither the number nor which version is live now. A task that does not
 * exist is made; without `isLive` it has no live version. The caller has just stored the adapter, so
 * versions whose copy of it was damaged are sound again.
 * @returns the version's number
 * @throws {TaskOfOtherModel} the task belongs to another base model; then nothing is changed
 */
export async function publishVersion(
  db: D1Database,
  version: NewVersion,
  { isLive }: { readonly isLive: boolean } = { isLive: true },
): Promise<number> {
  const v = version
  const moved = `live_version = excluded.live_version, updated_at_ms = excluded.updated_at_ms,`
  const nextNumber = `1 + coalesce(
    (SELECT max(number) FROM versions WHERE project_id = ?1 AND task = ?2), 0)`
  const [, , published] = await db.batch<{ number: number }>([
    db
      .prepare(
        `INSERT INTO tasks (project_id, name, model, live_version, created_at_ms, updated_at_ms)
         SELECT ?1, ?2, ?5, ${isLive ? nextNumber : 'NULL'}, ?4, ?4
         WHERE NOT EXISTS (SELECT 1 FROM versions WHERE job_id = ?3)
         ON CONFLICT (project_id, name) DO UPDATE SET
           ${isLive ? moved : ''}
           model = excluded.model,
           created_at_ms = iif(deleted_at_ms IS NULL, created_at_ms, excluded.created_at_ms),
           deleted_at_ms = NULL
         WHERE tasks.deleted_at_ms IS NOT NULL OR tasks.model = excluded.model`,
      )
      .bind(v.projectId, v.task, v.jobId, v.createdAtMs, v.model),
    db
      .prepare(
        `INSERT INTO versions (project_id, task, number, digest, model, model_digest,
           adapter_digest, scope, layers, instructions, position, labels, bias, temperature,
           min_confidence, fallback_label, report_key, job_id, created_at_ms)
         SELECT ?1, ?2, ${nextNumber}, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
           ?16, ?17, ?18
         WHERE EXISTS (SELECT 1 FROM tasks WHERE project_id = ?1 AND name = ?2 AND model = ?4)
         ON CONFLICT (job_id) DO NOTHING`,
      )
      .bind(
        v.projectId,
        v.task,
        v.digest,
        v.model,
        v.modelDigest,
        v.adapterDigest,
        v.scope,
        JSON.stringify(v.layers),
        v.instructions,
        v.position,
        v.labels === null ? null : JSON.stringify(v.labels),
        v.bias === null ? null : JSON.stringify(v.bias),
        v.temperature,
        v.minConfidence,
        v.fallbackLabel,
        v.reportKey,
        v.jobId,
        v.createdAtMs,
      ),
    db.prepare('SELECT number FROM versions WHERE job_id = ?1').bind(v.jobId),
    // All the project's versions with this adapter share the bytes that were just stored.
    db
      .prepare(
        `UPDATE versions SET corrupt_at_ms = NULL
         WHERE project_id = ?1 AND adapter_digest = ?2 AND corrupt_at_ms IS NOT NULL`,
      )
      .bind(v.projectId, v.adapterDigest),
  ])
  const number = published?.results[0]?.number
  if (number === undefined) throw new TaskOfOtherModel(v.task, v.model)
  return number
}

/**
 * Marks a project's versions whose adapter is damaged.
 * @returns whether at least one of them was not marked before
 */
export async function markCorrupt(
  db: D1Database,
  projectId: string,
  adapterDigest: string,
  nowMs: number,
): Promise<boolean> {
  const result = await drizzle(db)
    .update(versions)
    .set({ corruptAtMs: nowMs })
    .where(
      and(
        eq(versions.projectId, projectId),
        eq(versions.adapterDigest, adapterDigest),
        isNull(versions.corruptAtMs),
      ),
    )
  return result.meta.changes > 0
}

/** A project's versions whose adapter was found damaged. */
export async function listCorruptVersions(
  db: D1Database,
  projectId: string,
): Promise<readonly Pick<Version, 'task' | 'number'>[]> {
  return drizzle(db)
    .select({ task: versions.task, number: versions.number })
    .from(versions)
    .where(and(eq(versions.projectId, projectId), isNotNull(versions.corruptAtMs)))
}
