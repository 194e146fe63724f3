import { and, asc, desc, eq, gt, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import { ApiError } from '../protocol/openai/error.ts'
import type { PageQuery } from './paging.ts'
import { tasks, versions } from './schema.ts'
import { recordPromotion } from './promotions.ts'

export type Version = Readonly<typeof versions.$inferSelect>
/** A version that has no number yet. */
export type NewVersion = Omit<
  Version,
  'number' | 'corruptAtMs' | 'retiresAtMs' | 'tags' | 'notes'
> & {
  /** A version that a job of an older release made lacks these two. */
  readonly tags?: readonly string[] | null
  readonly notes?: string | null
}

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

type TaskName = {
  readonly projectId: string
  readonly name: string
  readonly retiredThrough: number
}

/** Of a task's versions, those that belong to no deleted task of the same name. */
const ofTask = ({ projectId, name, retiredThrough }: TaskName) =>
  and(
    eq(versions.projectId, projectId),
    eq(versions.task, name),
    gt(versions.number, retiredThrough),
  )

/**
 * A task's versions by number.
 * @param page `after` is a version's number
 * @param tag lists only versions with this tag
 * @returns up to one row more than the limit
 */
export async function listVersions(
  db: D1Database,
  task: TaskName,
  page: Omit<PageQuery, 'after'> & { readonly after?: number | undefined },
  tag?: string,
): Promise<readonly Version[]> {
  const [by, past] = page.order === 'asc' ? [asc, gt] : [desc, lt]
  return drizzle(db)
    .select()
    .from(versions)
    .where(
      and(
        ofTask(task),
        page.after === undefined ? undefined : past(versions.number, page.after),
        tag === undefined
          ? undefined
          : sql`EXISTS (SELECT 1 FROM json_each(${versions.tags}) WHERE value = ${tag})`,
      ),
    )
    .orderBy(by(versions.number))
    .limit(page.limit + 1)
}

/**
 * A task's versions whose digest begins with a prefix: of each digest the newest, since versions with
 * equal digests have equal content.
 * @param prefix hexadecimal
 * @returns at most two, of which the second says that the prefix is ambiguous
 */
export async function findVersionsByDigest(
  db: D1Database,
  task: TaskName,
  prefix: string,
): Promise<readonly Version[]> {
  const newest = drizzle(db)
    .select({ number: sql<number>`max(${versions.number})` })
    .from(versions)
    .where(and(ofTask(task), sql`substr(${versions.digest}, 1, ${prefix.length}) = ${prefix}`))
    .groupBy(versions.digest)
    .limit(2)
  return drizzle(db)
    .select()
    .from(versions)
    .where(and(ofTask(task), sql`${versions.number} IN ${newest}`))
}

/**
 * Changes what may change about a version. The task's revision rises with it, so that gateways read the
 * version anew within the time that they cache a task's name.
 * @returns false where the task has no such version
 */
export async function updateVersion(
  db: D1Database,
  { projectId, name }: TaskName,
  number: number,
  change: Partial<Pick<Version, 'tags' | 'notes' | 'retiresAtMs'>>,
): Promise<boolean> {
  if (Object.keys(change).length === 0) return true
  const database = drizzle(db)
  const [updated] = await database.batch([
    database
      .update(versions)
      .set(change)
      .where(
        and(
          eq(versions.projectId, projectId),
          eq(versions.task, name),
          eq(versions.number, number),
        ),
      ),
    database
      .update(tasks)
      .set({ revision: sql`${tasks.revision} + 1` })
      .where(and(eq(tasks.projectId, projectId), eq(tasks.name, name))),
  ])
  return updated.meta.changes === 1
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
  const results = await db.batch<{ number: number }>([
    ...(isLive
      ? [
          recordPromotion(db, {
            projectId: v.projectId,
            task: v.task,
            version: `(SELECT ${nextNumber})`,
            nowMs: v.createdAtMs,
            cause: 'publish',
            publishes: { jobId: v.jobId, model: v.model },
          }),
        ]
      : []),
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
           min_confidence, fallback_label, report_key, job_id, created_at_ms, tags, notes)
         SELECT ?1, ?2, ${nextNumber}, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
           ?16, ?17, ?18, ?19, ?20
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
        v.tags == null ? null : JSON.stringify(v.tags),
        v.notes ?? null,
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
  const number = results.at(-2)?.results[0]?.number
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
