import { Hono, type Context } from 'hono'
import type { AppEnv } from '../../context.ts'
import {
  findKey,
  insertKey,
  listKeys,
  replaceKey,
  updateKey,
  type KeyOwner,
  type KeyRow,
} from '../../db/keys.ts'
import { readJsonObject } from '../../http/read-json.ts'
import { invalidRequest, notFound } from '../../protocol/openai/error.ts'
import { toPage } from '../../protocol/openai/files.ts'
import {
  createAdminKeySchema,
  createKeySchema,
  createServiceAccountSchema,
  organizationPageSchema,
  rotateKeySchema,
  updateKeySchema,
  type AdminKey,
  type ProjectKey,
  type ServiceAccount,
} from '../../protocol/openai/organization.ts'
import { parseWire } from '../../protocol/parse.ts'
import { createKey } from './new-key.ts'
import { requireActiveProject, requireProject } from './projects.ts'

/** Keys of a project, each of which is its own service account too. */
export const projectKeys = new Hono<AppEnv>()
  .get('/:project/api_keys', async (c) => c.json(await listPage(c, await ownerOf(c), toProjectKey)))
  .post('/:project/api_keys', async (c) => {
    const owner = await ownerOf(c, requireActiveProject)
    const body = parseWire(createKeySchema, await readJsonObject(c.req.raw))
    const { value, row } = await createKey(owner, settingsOf(body), Date.now())
    await insertKey(c.env.DB, row)
    return c.json({ ...toProjectKey(row), value })
  })
  .get('/:project/api_keys/:key', async (c) =>
    c.json(toProjectKey(await requireKey(c, await ownerOf(c)))),
  )
  .post('/:project/api_keys/:key', async (c) => {
    const owner = await ownerOf(c, requireActiveProject)
    const body = parseWire(updateKeySchema, await readJsonObject(c.req.raw))
    const { name, scopes, expires_in_seconds: lifetime } = body
    await requireUnexpired(c, owner)
    const row = await updateKey(c.env.DB, owner, keyParam(c), {
      ...(name === undefined ? {} : { name }),
      ...(scopes === undefined ? {} : { scopes }),
      ...(lifetime === undefined ? {} : { expiresAtMs: Date.now() + 1000 * lifetime }),
    })
    if (row === null) throw noKey(keyParam(c))
    return c.json(toProjectKey(row))
  })
  .post('/:project/api_keys/:key/rotate', async (c) => {
    const owner = await ownerOf(c, requireActiveProject)
    const body = parseWire(rotateKeySchema, await readJsonObject(c.req.raw))
    const old = await requireUnexpired(c, owner)
    const { value, row } = await rotate(c.env.DB, owner, old, 1000 * body.grace_seconds)
    return c.json({ ...toProjectKey(row), value })
  })
  .delete('/:project/api_keys/:key', async (c) => {
    const id = await revoke(c, await ownerOf(c))
    return c.json({ id, object: 'organization.project.api_key.deleted', deleted: true })
  })
  .get('/:project/service_accounts', async (c) =>
    c.json(await listPage(c, await ownerOf(c), toServiceAccount)),
  )
  .post('/:project/service_accounts', async (c) => {
    const owner = await ownerOf(c, requireActiveProject)
    const body = parseWire(createServiceAccountSchema, await readJsonObject(c.req.raw))
    const settings = settingsOf(parseWire(createKeySchema, body))
    const { value, row } = await createKey(owner, settings, Date.now())
    await insertKey(c.env.DB, row)
    const { id, name, created_at } = toServiceAccount(row)
    const object = 'organization.project.service_account.api_key'
    return c.json({ ...toServiceAccount(row), api_key: { object, id, name, created_at, value } })
  })
  .get('/:project/service_accounts/:key', async (c) =>
    c.json(toServiceAccount(await requireKey(c, await ownerOf(c)))),
  )
  .delete('/:project/service_accounts/:key', async (c) => {
    const id = await revoke(c, await ownerOf(c))
    return c.json({ id, object: 'organization.project.service_account.deleted', deleted: true })
  })

/** Keys of the organisation alone: they administer it, and ask no model. */
export const adminKeys = new Hono<AppEnv>()
  .get('/', async (c) => c.json(await listPage(c, organizationOf(c), toAdminKey)))
  .post('/', async (c) => {
    const body = parseWire(createAdminKeySchema, await readJsonObject(c.req.raw))
    const settings = settingsOf({ ...body, scopes: ['admin'] })
    const { value, row } = await createKey(organizationOf(c), settings, Date.now())
    await insertKey(c.env.DB, row)
    return c.json({ ...toAdminKey(row), value })
  })
  .get('/:key', async (c) => c.json(toAdminKey(await requireKey(c, organizationOf(c)))))
  .delete('/:key', async (c) => {
    const id = await revoke(c, organizationOf(c))
    return c.json({ id, object: 'organization.admin_api_key.deleted', deleted: true })
  })

type KeyContext = Context<AppEnv>

const organizationOf = (c: KeyContext): KeyOwner => ({
  organizationId: c.get('caller').organizationId,
  projectId: null,
})

/** @throws {ApiError} 404: the caller's organisation has no such project */
async function ownerOf(c: KeyContext, require = requireProject): Promise<KeyOwner> {
  const { id, organizationId } = await require(c.env.DB, c.get('caller'), c.req.param('project') ??
    '')
  return { organizationId, projectId: id }
}

const keyParam = (c: KeyContext): string => c.req.param('key') ?? ''

async function requireKey(c: KeyContext, owner: KeyOwner): Promise<KeyRow> {
  const row = await findKey(c.env.DB, owner, keyParam(c))
  if (row === null) throw noKey(keyParam(c))
  return row
}

/** @throws {ApiError} 404 as for one that is not there; 400 for one that has expired */
async function requireUnexpired(c: KeyContext, owner: KeyOwner): Promise<KeyRow> {
  const row = await requireKey(c, owner)
  if (row.expiresAtMs === null || row.expiresAtMs > Date.now()) return row
  throw invalidRequest(
    `The key ${row.id} has expired: make a new one.`,
    'api_key_id',
    'key_expired',
  )
}

async function listPage<T extends { readonly id: string }>(
  c: KeyContext,
  owner: KeyOwner,
  show: (row: KeyRow) => T,
) {
  const page = parseWire(organizationPageSchema, c.req.query())
  const rows = await listKeys(c.env.DB, owner, page)
  if (rows === null) throw invalidRequest('No such key to list after.', 'after')
  return toPage(rows.map(show), page.limit)
}

/** The new key lives as long as the old one was meant to. */
async function rotate(db: D1Database, owner: KeyOwner, old: KeyRow, graceMs: number) {
  const nowMs = Date.now()
  const { name, scopes } = old
  const expiresAtMs = old.expiresAtMs === null ? null : nowMs + old.expiresAtMs - old.createdAtMs
  const made = await createKey(owner, { name, scopes, expiresAtMs }, nowMs)
  const endsAtMs = Math.min(old.expiresAtMs ?? Infinity, nowMs + graceMs)
  await replaceKey(db, { id: old.id, expiresAtMs: endsAtMs }, made.row)
  return made
}

async function revoke(c: KeyContext, owner: KeyOwner): Promise<string> {
  const id = keyParam(c)
  if ((await updateKey(c.env.DB, owner, id, { revokedAtMs: Date.now() })) === null) throw noKey(id)
  return id
}

const noKey = (id: string) => notFound(`No such API key: ${id}`, 'api_key_id', 'key_not_found')

const settingsOf = (body: {
  readonly name: string
  readonly scopes: KeyRow['scopes']
  readonly expires_in_seconds?: number | null | undefined
}): Pick<KeyRow, 'name' | 'scopes' | 'expiresAtMs'> => ({
  name: body.name,
  scopes: body.scopes,
  expiresAtMs: body.expires_in_seconds == null ? null : Date.now() + 1000 * body.expires_in_seconds,
})

const seconds = (ms: number) => Math.floor(ms / 1000)
const secondsOrNull = (ms: number | null) => (ms === null ? null : seconds(ms))

const keyFields = (row: KeyRow) => ({
  id: row.id,
  name: row.name,
  redacted_value: `${row.prefix === '' ? 'sk-' : row.prefix}${'*'.repeat(8)}`,
  created_at: seconds(row.createdAtMs),
  last_used_at: secondsOrNull(row.lastUsedAtMs),
  expires_at: secondsOrNull(row.expiresAtMs),
  scopes: row.scopes,
})

const toServiceAccount = (row: KeyRow): ServiceAccount => ({
  id: row.id,
  object: 'organization.project.service_account',
  name: row.name,
  role: 'member',
  created_at: seconds(row.createdAtMs),
})

const toProjectKey = (row: KeyRow): ProjectKey => ({
  object: 'organization.project.api_key',
  ...keyFields(row),
  owner: { type: 'service_account', service_account: toServiceAccount(row) },
  owner_project_access: 'active',
})

const toAdminKey = (row: KeyRow): AdminKey => ({
  object: 'organization.admin_api_key',
  ...keyFields(row),
  owner: {
    type: 'service_account',
    object: 'organization.service_account',
    id: row.id,
    name: row.name,
    created_at: seconds(row.createdAtMs),
    role: 'owner',
  },
})
