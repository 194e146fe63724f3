import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import type { Config } from '../env.ts'
import { deleteTask, findTask, listTasks, type TaskRow } from '../db/tasks.ts'
import { listCorruptVersions } from '../db/versions.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { toPage } from '../protocol/openai/files.ts'
import { modelPageSchema, type Model, type ModelList } from '../protocol/openai/models.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { modelNotFound, readModel, servedModels } from '../tasks/requested-model.ts'
import { forgetTask, readSelection, resolveSelection } from '../tasks/resolve.ts'
import { TASK_NAME_PATTERN } from '../tasks/selection.ts'

/**
 * Lists the base models and the tasks of each. A version or a sum is not listed, but has an entry by
 * its name.
 */
export const models = new Hono<AppEnv>()
  .get('/', async (c) => {
    const { config } = servicesOf(c.env)
    const page = parseWire(modelPageSchema, c.req.query())
    const served = servedModels(config)
    const { bases, after } = placeOf(page.after, served, config)
    const limit = Math.max(0, page.limit - bases.length)
    const projectId = c.get('projectId')
    const rows = await listTasks(c.env.DB, projectId, { limit, after, order: 'asc' }, served)
    const corrupt = await listCorruptVersions(c.env.DB, projectId)
    const entries = [...bases.map(baseEntry), ...rows.map((row) => taskEntry(row, corrupt))]
    return c.json(toPage(entries, page.limit) satisfies ModelList)
  })
  .get('/:id', async (c) => {
    const { config } = servicesOf(c.env)
    const projectId = c.get('projectId')
    const { model, selection: text } = readModel(config, c.req.param('id'))
    if (text === null) return c.json(baseEntry(model))
    if (TASK_NAME_PATTERN.test(text)) {
      // A task has this entry even if no version of it is live yet.
      const row = await findTask(c.env.DB, projectId, text)
      if (row?.model !== model) throw modelNotFound(c.req.param('id'))
      return c.json(taskEntry(row, await listCorruptVersions(c.env.DB, projectId)))
    }
    const terms = readSelection(text, 'model')
    const selection = await resolveSelection(c.env.DB, projectId, model, terms, 'model')
    const [term] = selection.terms
    const isSum = selection.terms.length > 1 || term === undefined
    const row = isSum ? null : await findTask(c.env.DB, projectId, term.version.task)
    const corrupt = await listCorruptVersions(c.env.DB, projectId)
    return c.json(selectionEntry(model, projectId, selection, row, corrupt))
  })
  .delete('/:id', async (c) => {
    const { config } = servicesOf(c.env)
    const projectId = c.get('projectId')
    const id = c.req.param('id')
    const { model, selection: name } = readModel(config, id)
    if (name === null) throw invalidRequest('A base model cannot be deleted.', 'model')
    if (!TASK_NAME_PATTERN.test(name)) {
      throw invalidRequest(
        `A task is deleted with all its versions: name it as ${model}:TASK, not "${id}".`,
        'model',
      )
    }
    const row = await findTask(c.env.DB, projectId, name)
    const isDeleted =
      row?.model === model && (await deleteTask(c.env.DB, projectId, name, Date.now()))
    forgetTask(projectId, name)
    if (!isDeleted) throw modelNotFound(id)
    return c.json({ id, object: 'model', deleted: true })
  })

/**
 * Where a page begins: base models come first, then tasks by name.
 * @param after id of the model that the last page ended with
 * @throws {ApiError} 404: an id that no list has
 */
function placeOf(
  after: string | undefined,
  served: readonly string[],
  config: Config,
): { readonly bases: readonly string[]; readonly after: string | undefined } {
  if (after === undefined) return { bases: served, after: undefined }
  const { model, selection } = readModel(config, after)
  if (selection !== null) return { bases: [], after: selection }
  return { bases: served.slice(served.indexOf(model) + 1), after: undefined }
}

/** A base model was not made here, so it has no time of creation. */
const BASE_CREATED = 0
const seconds = (ms: number) => Math.floor(ms / 1000)

type CorruptVersions = Awaited<ReturnType<typeof listCorruptVersions>>

const baseEntry = (id: string): Model => ({
  id,
  object: 'model',
  created: BASE_CREATED,
  owned_by: 'arcana',
})

const taskEntry = (row: TaskRow, corrupt: CorruptVersions): Model => ({
  id: `${row.model}:${row.name}`,
  object: 'model',
  created: seconds(row.createdAtMs),
  owned_by: row.projectId,
  arcana: {
    base: row.model,
    task: row.name,
    live_version: row.liveVersion,
    is_corrupt: corrupt.some(({ task, number }) => task === row.name && number === row.liveVersion),
  },
})

/** @param row the task of a selection with one term; null for a sum */
const selectionEntry = (
  base: string,
  projectId: string,
  { expression, terms }: ResolvedSelection,
  row: TaskRow | null,
  corrupt: CorruptVersions,
): Model => ({
  id: `${base}:${expression}`,
  object: 'model',
  created: seconds(Math.max(...terms.map(({ version }) => version.createdAtMs))),
  owned_by: projectId,
  arcana: {
    base,
    task: expression,
    version: row === null ? null : terms[0]!.version.number,
    live_version: row?.liveVersion ?? null,
    // The selection's versions come from a cache, so their own marks may be old.
    is_corrupt: terms.some(({ version }) =>
      corrupt.some(({ task, number }) => task === version.task && number === version.number),
    ),
  },
})
