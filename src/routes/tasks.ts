import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { deleteTask, findTask, listTasks, promoteVersion, type TaskRow } from '../db/tasks.ts'
import { listPrevious } from '../db/promotions.ts'
import { findVersion, listVersions, type Version } from '../db/versions.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  promoteSchema,
  rollbackSchema,
  taskPageSchema,
  type Task,
  type TaskVersion,
  type TaskWithVersions,
} from '../protocol/arcana/tasks.ts'
import { ApiError, notFound } from '../protocol/openai/error.ts'
import { toPage, type Page } from '../protocol/openai/files.ts'
import type { AnyReport } from '../protocol/openai/text-report.ts'
import { parseWire } from '../protocol/parse.ts'
import { jobOfVersion } from '../jobs/checkpoint.ts'
import { forgetTask } from '../tasks/resolve.ts'

/** A task is shown with this many of its versions, each with its report from R2. */
const SHOWN_VERSIONS = 20

export const tasks = new Hono<AppEnv>()
  .get('/', async (c) => {
    const page = parseWire(taskPageSchema, c.req.query())
    const rows = await listTasks(c.env.DB, c.get('projectId'), page)
    const shown = rows.map(toTask)
    return c.json(toPage(shown, page.limit) satisfies Page<Task>)
  })
  .get('/:name', async (c) => {
    const row = await requireTask(c.env.DB, c.get('projectId'), c.req.param('name'))
    const found = await listVersions(c.env.DB, row, { limit: SHOWN_VERSIONS, order: 'desc' })
    const versions = await Promise.all(
      found
        .slice(0, SHOWN_VERSIONS)
        .map(async (version) =>
          toVersion(version, row, await readReport(c.env.BLOBS, version.reportKey)),
        ),
    )
    return c.json({
      ...toTask(row),
      versions,
      has_more_versions: found.length > SHOWN_VERSIONS,
    } satisfies TaskWithVersions)
  })
  .post('/:name/promote', async (c) => {
    const projectId = c.get('projectId')
    const name = c.req.param('name')
    const body = parseWire(promoteSchema, await readJsonObject(c.req.raw))
    const isPromoted = await promoteVersion(c.env.DB, {
      projectId,
      name,
      version: body.version,
      expectedLive: body.expected_live,
      nowMs: Date.now(),
    })
    forgetTask(projectId, name)
    const row = await requireTask(c.env.DB, projectId, name)
    if (isPromoted) return c.json(toTask(row))
    const version = await findVersion(c.env.DB, projectId, name, body.version)
    if (version === null || version.number <= row.retiredThrough) {
      throw noVersion(name, String(body.version))
    }
    throw row.liveVersion !== body.expected_live
      ? otherLive(row, body.expected_live)
      : new ApiError(
          409,
          `Version ${body.version} of "${name}" is retired, so it cannot go live.`,
          { param: 'version', code: 'version_retired' },
        )
  })
  .post('/:name/rollback', async (c) => {
    const projectId = c.get('projectId')
    const name = c.req.param('name')
    const body = parseWire(rollbackSchema, await readJsonObject(c.req.raw))
    const expectedLive = body.expected_live
    const before = await requireTask(c.env.DB, projectId, name)
    if (before.liveVersion !== expectedLive) throw otherLive(before, expectedLive)
    for (const { version, previous } of await listPrevious(c.env.DB, projectId, name)) {
      if (version === expectedLive) continue
      const rollback = { previous }
      const change = { projectId, name, version, expectedLive, nowMs: Date.now(), rollback }
      const isDone = await promoteVersion(c.env.DB, change)
      forgetTask(projectId, name)
      const row = await requireTask(c.env.DB, projectId, name)
      if (isDone) return c.json(toTask(row))
      if (row.liveVersion !== expectedLive) throw otherLive(row, expectedLive)
      // That version is gone or retired; the one before it may not be.
    }
    throw new ApiError(
      409,
      `No version of "${name}" that could go live was live before ${expectedLive}.`,
      {
        code: 'nothing_to_roll_back',
      },
    )
  })
  .delete('/:name', async (c) => {
    const projectId = c.get('projectId')
    const name = c.req.param('name')
    const isDeleted = await deleteTask(c.env.DB, projectId, name, Date.now())
    forgetTask(projectId, name)
    if (!isDeleted) throw noTask(name)
    return c.json({ id: name, object: 'arcana.task', deleted: true })
  })

export async function requireTask(
  db: D1Database,
  projectId: string,
  name: string,
): Promise<TaskRow> {
  const row = await findTask(db, projectId, name)
  if (row === null) throw noTask(name)
  return row
}

const otherLive = ({ name, liveVersion }: TaskRow, expected: number | null) =>
  new ApiError(
    409,
    `Version ${liveVersion ?? 'none'} of "${name}" is live, not ${expected ?? 'none'}.`,
    { param: 'expected_live', code: 'live_version_conflict' },
  )

export const noVersion = (name: string, version: string) =>
  notFound(`The task "${name}" has no version ${version}.`, 'version', 'version_not_found')

const noTask = (name: string) => notFound(`No such task: ${name}`, 'name', 'task_not_found')

export async function readReport(bucket: R2Bucket, key: string): Promise<AnyReport | null> {
  const object = await bucket.get(key)
  return object === null ? null : object.json<AnyReport>()
}

const seconds = (ms: number) => Math.floor(ms / 1000)

const toTask = (row: TaskRow): Task => ({
  object: 'arcana.task',
  id: row.name,
  name: row.name,
  model: row.model,
  live_version: row.liveVersion,
  fine_tuned_model: `${row.model}:${row.name}`,
  created_at: seconds(row.createdAtMs),
  updated_at: seconds(row.updatedAtMs),
})

export const toVersion = (
  version: Version,
  task: TaskRow,
  report?: AnyReport | null,
): TaskVersion => ({
  object: 'arcana.task.version',
  id: `${task.name}@${version.number}`,
  task: task.name,
  version: version.number,
  is_live: version.number === task.liveVersion,
  digest: version.digest,
  model: version.model,
  model_digest: version.modelDigest,
  adapter_digest: version.adapterDigest,
  scope: version.scope,
  layers: version.layers,
  instructions: version.instructions,
  position: version.position,
  labels: version.labels,
  bias: version.bias,
  temperature: version.temperature,
  min_confidence: version.minConfidence,
  fallback_label: version.fallbackLabel,
  job: jobOfVersion(version.jobId),
  created_at: seconds(version.createdAtMs),
  corrupt_at: version.corruptAtMs === null ? null : seconds(version.corruptAtMs),
  retires_at: version.retiresAtMs === null ? null : seconds(version.retiresAtMs),
  tags: version.tags ?? [],
  notes: version.notes,
  ...(report === undefined ? {} : { report }),
})
