import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { findTask, listTasks, type TaskRow } from '../db/tasks.ts'
import { listCorruptVersions } from '../db/versions.ts'
import { ApiError } from '../protocol/openai/error.ts'
import type { Model, ModelList } from '../protocol/openai/models.ts'
import { servicesOf } from '../services.ts'

/** The base model and one entry a task. */
export const models = new Hono<AppEnv>()
  .get('/', async (c) => {
    const { baseModel } = servicesOf(c.env).config
    const rows = await listTasks(c.env.DB, c.get('projectId'))
    const corrupt = await listCorruptVersions(c.env.DB, c.get('projectId'))
    const data = [baseEntry(baseModel), ...rows.map((row) => taskEntry(baseModel, row, corrupt))]
    return c.json({ object: 'list', data } satisfies ModelList)
  })
  .get('/:id', async (c) => {
    const { baseModel } = servicesOf(c.env).config
    const id = c.req.param('id')
    if (id === baseModel) return c.json(baseEntry(baseModel))
    const row = id.startsWith(`${baseModel}:`)
      ? await findTask(c.env.DB, c.get('projectId'), id.slice(baseModel.length + 1))
      : null
    if (row === null) {
      throw new ApiError(404, `The model \`${id}\` does not exist.`, {
        param: 'model',
        code: 'model_not_found',
      })
    }
    const corrupt = await listCorruptVersions(c.env.DB, row.projectId)
    return c.json(taskEntry(baseModel, row, corrupt))
  })

/** The base model is not made here, so it has no time of its own. */
const BASE_CREATED = 0

const baseEntry = (id: string): Model => ({
  id,
  object: 'model',
  created: BASE_CREATED,
  owned_by: 'arcana',
})

const taskEntry = (
  baseModel: string,
  row: TaskRow,
  corrupt: Awaited<ReturnType<typeof listCorruptVersions>>,
): Model => ({
  id: `${baseModel}:${row.name}`,
  object: 'model',
  created: Math.floor(row.createdAtMs / 1000),
  owned_by: row.projectId,
  arcana: {
    base: baseModel,
    task: row.name,
    live_version: row.liveVersion,
    is_corrupt: corrupt.some(({ task, number }) => task === row.name && number === row.liveVersion),
  },
})
