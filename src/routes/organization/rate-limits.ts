import { Hono, type Context } from 'hono'
import type { AppEnv } from '../../context.ts'
import { findKey, listKeys, updateKey } from '../../db/keys.ts'
import { updateProject, type ProjectRow } from '../../db/projects.ts'
import { readJsonObject } from '../../http/read-json.ts'
import type { Limits } from '../../protocol/limits.ts'
import { invalidRequest, notFound } from '../../protocol/openai/error.ts'
import { toPage } from '../../protocol/openai/files.ts'
import {
  organizationPageSchema,
  RATE_LIMIT_FIELDS,
  updateRateLimitSchema,
  type RateLimit,
  type RateLimitField,
} from '../../protocol/openai/organization.ts'
import { parseWire } from '../../protocol/parse.ts'
import { requireActiveProject, requireProject } from './projects.ts'

/** The id of a project's own limits. Those of a key have the key's id after `rl-`. */
const PROJECT_ID = 'rl-project'
const PREFIX = 'rl-'

/** The limits of a project, and of each of its keys. */
export const rateLimits = new Hono<AppEnv>()
  .get('/:project/rate_limits', async (c) => {
    const project = await requireProject(c.env.DB, c.get('caller'), c.req.param('project'))
    const page = parseWire(organizationPageSchema, c.req.query())
    const isFirst = page.after === undefined || page.after === ''
    const after = page.after === PROJECT_ID || isFirst ? undefined : keyIdOf(page.after ?? '')
    const owner = ownerOf(project)
    const rows = await listKeys(c.env.DB, owner, { ...page, after })
    if (rows === null) throw invalidRequest('No such rate limit to list after.', 'after')
    const own = isFirst ? [toRateLimit(null, project.limits)] : []
    const all = [...own, ...rows.map(({ id, limits }) => toRateLimit(id, limits))]
    return c.json(toPage(all.slice(0, page.limit + 1), page.limit))
  })
  .post('/:project/rate_limits/:rateLimit', async (c) => {
    const project = await requireActiveProject(c.env.DB, c.get('caller'), c.req.param('project'))
    const body = parseWire(updateRateLimitSchema, await readJsonObject(c.req.raw))
    const id = c.req.param('rateLimit')
    return c.json(await (id === PROJECT_ID ? ofProject(c, project, body) : ofKey(c, project, body)))
  })

type Body = Partial<Record<RateLimitField, number | null | undefined>>

async function ofProject(c: Context<AppEnv>, project: ProjectRow, body: Body): Promise<RateLimit> {
  const limits = changed(project.limits, body)
  const { organizationId, id } = project
  const row = await updateProject(c.env.DB, organizationId, id, { limits })
  if (row === null) throw noRateLimit(PROJECT_ID)
  return toRateLimit(null, row.limits)
}

async function ofKey(c: Context<AppEnv>, project: ProjectRow, body: Body): Promise<RateLimit> {
  const id = c.req.param('rateLimit') ?? ''
  const keyId = keyIdOf(id)
  const owner = ownerOf(project)
  const key = await findKey(c.env.DB, owner, keyId)
  const limits = key && changed(key.limits, body)
  const row = limits && (await updateKey(c.env.DB, owner, keyId, { limits }))
  if (row === null) throw noRateLimit(id)
  return toRateLimit(row.id, row.limits)
}

const ownerOf = ({ organizationId, id }: ProjectRow) => ({ organizationId, projectId: id })
const keyIdOf = (id: string): string => (id.startsWith(PREFIX) ? id.slice(PREFIX.length) : '')

/** Null takes a limit away; what the body does not name stays. */
function changed(limits: Limits, body: Body): Limits {
  return Object.fromEntries(
    Object.entries(RATE_LIMIT_FIELDS).flatMap(([field, name]) => {
      const value = body[field as RateLimitField]
      const max = value === undefined ? limits[name] : (value ?? undefined)
      return max === undefined ? [] : [[name, max]]
    }),
  )
}

const noRateLimit = (id: string) =>
  notFound(`No such rate limit: ${id}`, 'rate_limit_id', 'rate_limit_not_found')

function toRateLimit(keyId: string | null, limits: Limits): RateLimit {
  return {
    object: 'project.rate_limit',
    id: keyId === null ? PROJECT_ID : `${PREFIX}${keyId}`,
    model: '*',
    api_key_id: keyId,
    max_requests_per_1_minute: limits.requestsPerMinute ?? null,
    max_tokens_per_1_minute: limits.tokensPerMinute ?? null,
    max_concurrent_requests: limits.concurrentRequests ?? null,
    max_tokens_per_1_month: limits.tokensPerMonth ?? null,
  }
}
