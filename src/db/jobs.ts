import { and, asc, desc, eq, sql, type SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { FineTuningJob, MetadataFilter } from '../protocol/openai/fine-tuning.ts'
import { following, type PageQuery } from './paging.ts'
import { jobs } from './schema.ts'

type JobRow = typeof jobs.$inferSelect

/** Writes a job's row from its Durable Object. A copy that is older than the row changes nothing. */
export async function upsertJob(
  db: D1Database,
  job: {
    readonly projectId: string
    readonly object: FineTuningJob
    readonly revision: number
    readonly createdAtMs: number
  },
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO jobs (project_id, id, status, object, revision, created_at_ms)
       VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (project_id, id) DO UPDATE SET
         status = excluded.status, object = excluded.object, revision = excluded.revision
       WHERE excluded.revision > jobs.revision`,
    )
    .bind(
      job.projectId,
      job.object.id,
      job.object.status,
      JSON.stringify(job.object),
      job.revision,
      job.createdAtMs,
    )
    .run()
}

export async function findJob(
  db: D1Database,
  projectId: string,
  id: string,
): Promise<JobRow | null> {
  const rows = await drizzle(db)
    .select()
    .from(jobs)
    .where(and(eq(jobs.projectId, projectId), eq(jobs.id, id)))
  return rows[0] ?? null
}

/** @returns up to one job more than the limit; null where `after` names no job */
export async function listJobs(
  db: D1Database,
  projectId: string,
  page: PageQuery,
  metadata?: MetadataFilter,
): Promise<readonly FineTuningJob[] | null> {
  const cursor = page.after === undefined ? undefined : await findJob(db, projectId, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  const rows = await drizzle(db)
    .select({ object: jobs.object })
    .from(jobs)
    .where(
      and(
        eq(jobs.projectId, projectId),
        cursor === undefined ? undefined : following(jobs, cursor, page.order),
        ...havingMetadata(metadata),
      ),
    )
    .orderBy(by(jobs.createdAtMs), by(jobs.id))
    .limit(page.limit + 1)
  return rows.map(({ object }) => JSON.parse(object) as FineTuningJob)
}

function havingMetadata(metadata: MetadataFilter | undefined): SQL[] {
  if (metadata === undefined) return []
  if (metadata === null) {
    return [sql`coalesce(json_type(${jobs.object}, '$.metadata'), 'null') = 'null'`]
  }
  return Object.entries(metadata).map(
    ([key, value]) =>
      sql`EXISTS (SELECT 1 FROM json_each(${jobs.object}, '$.metadata') AS entry
        WHERE entry.key = ${key} AND entry.value = ${value})`,
  )
}
