import { Hono } from 'hono'
import type { AppEnv } from '../../context.ts'
import {
  findProject,
  insertProject,
  listProjects,
  updateProject,
  type ProjectRow,
} from '../../db/projects.ts'
import { readJsonObject } from '../../http/read-json.ts'
import { invalidRequest, notFound } from '../../protocol/openai/error.ts'
import { toPage } from '../../protocol/openai/files.ts'
import {
  createProjectSchema,
  projectPageSchema,
  updateProjectSchema,
  type Project,
} from '../../protocol/openai/organization.ts'
import { parseWire } from '../../protocol/parse.ts'
import { hexId } from '../../protocol/openai/hex-id.ts'

/** The projects of the caller's organisation. */
export const organizationProjects = new Hono<AppEnv>()
  .get('/', async (c) => {
    const { organizationId } = c.get('caller')
    const page = parseWire(projectPageSchema, c.req.query())
    const rows = await listProjects(c.env.DB, organizationId, page, page.include_archived)
    if (rows === null) throw invalidRequest('No such project to list after.', 'after')
    return c.json(toPage(rows.map(toProject), page.limit))
  })
  .post('/', async (c) => {
    const { organizationId } = c.get('caller')
    const { name } = parseWire(createProjectSchema, await readJsonObject(c.req.raw))
    const row: ProjectRow = {
      id: `proj_${hexId()}`,
      organizationId,
      name,
      createdAtMs: Date.now(),
      archivedAtMs: null,
      limits: {},
    }
    await insertProject(c.env.DB, row)
    return c.json(toProject(row))
  })
  .get('/:project', async (c) =>
    c.json(toProject(await requireProject(c.env.DB, c.get('caller'), c.req.param('project')))),
  )
  .post('/:project', async (c) => {
    const { organizationId } = c.get('caller')
    const id = c.req.param('project')
    const { name } = parseWire(updateProjectSchema, await readJsonObject(c.req.raw))
    const row = await updateProject(c.env.DB, organizationId, id, { name })
    if (row === null) throw noProject(id)
    return c.json(toProject(row))
  })
  .post('/:project/archive', async (c) => {
    const { organizationId } = c.get('caller')
    const id = c.req.param('project')
    const change = { archivedAtMs: Date.now() }
    const row =
      (await updateProject(c.env.DB, organizationId, id, change)) ??
      (await requireProject(c.env.DB, c.get('caller'), id))
    return c.json(toProject(row))
  })

/** @throws {ApiError} 404: the organisation has no such project */
export async function requireProject(
  db: D1Database,
  { organizationId }: { readonly organizationId: string },
  id: string,
): Promise<ProjectRow> {
  const row = await findProject(db, organizationId, id)
  if (row === null) throw noProject(id)
  return row
}

/** @throws {ApiError} 404 as {@link requireProject}; 400 for a project that is archived */
export async function requireActiveProject(
  db: D1Database,
  caller: { readonly organizationId: string },
  id: string,
): Promise<ProjectRow> {
  const row = await requireProject(db, caller, id)
  if (row.archivedAtMs !== null) {
    throw invalidRequest(`The project ${id} is archived.`, 'project_id', 'project_archived')
  }
  return row
}

const noProject = (id: string) =>
  notFound(`No such active project: ${id}`, 'project_id', 'project_not_found')

const seconds = (ms: number) => Math.floor(ms / 1000)

const toProject = (row: ProjectRow): Project => ({
  id: row.id,
  object: 'organization.project',
  name: row.name,
  created_at: seconds(row.createdAtMs),
  archived_at: row.archivedAtMs === null ? null : seconds(row.archivedAtMs),
  status: row.archivedAtMs === null ? 'active' : 'archived',
})
