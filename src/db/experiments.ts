import { and, asc, desc, eq } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { Experiment, ExperimentSummary } from '../protocol/arcana/experiment.ts'
import { following, type PageQuery } from './paging.ts'
import { experiments } from './schema.ts'

export async function insertExperiment(
  db: D1Database,
  row: { readonly projectId: string; readonly object: Experiment; readonly createdAtMs: number },
): Promise<void> {
  const { projectId, object, createdAtMs } = row
  const { rows, ...summary } = object
  await drizzle(db)
    .insert(experiments)
    .values({
      projectId,
      id: object.id,
      summary: JSON.stringify(summary),
      rows: JSON.stringify(rows),
      createdAtMs,
    })
}

export async function findExperiment(
  db: D1Database,
  projectId: string,
  id: string,
): Promise<Experiment | null> {
  const [row] = await drizzle(db)
    .select()
    .from(experiments)
    .where(and(eq(experiments.projectId, projectId), eq(experiments.id, id)))
  if (row === undefined) return null
  return {
    ...(JSON.parse(row.summary) as ExperimentSummary),
    rows: JSON.parse(row.rows) as Experiment['rows'],
  }
}

/** @returns up to one experiment more than the limit; null where `after` names no experiment */
export async function listExperiments(
  db: D1Database,
  projectId: string,
  page: PageQuery,
): Promise<readonly ExperimentSummary[] | null> {
  const cursor = page.after === undefined ? undefined : await findCursor(db, projectId, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  const rows = await drizzle(db)
    .select({ summary: experiments.summary })
    .from(experiments)
    .where(
      and(
        eq(experiments.projectId, projectId),
        cursor === undefined ? undefined : following(experiments, cursor, page.order),
      ),
    )
    .orderBy(by(experiments.createdAtMs), by(experiments.id))
    .limit(page.limit + 1)
  return rows.map(({ summary }) => JSON.parse(summary) as ExperimentSummary)
}

async function findCursor(db: D1Database, projectId: string, id: string) {
  const rows = await drizzle(db)
    .select({ id: experiments.id, createdAtMs: experiments.createdAtMs })
    .from(experiments)
    .where(and(eq(experiments.projectId, projectId), eq(experiments.id, id)))
  return rows[0] ?? null
}

/** @returns whether there was one */
export async function deleteExperiment(
  db: D1Database,
  projectId: string,
  id: string,
): Promise<boolean> {
  const rows = await drizzle(db)
    .delete(experiments)
    .where(and(eq(experiments.projectId, projectId), eq(experiments.id, id)))
    .returning({ id: experiments.id })
  return rows.length > 0
}
