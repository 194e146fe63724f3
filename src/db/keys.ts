import { and, asc, desc, eq, isNull } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/d1'
import type { CallerLimits } from '../protocol/limits.ts'
import type { KeyScope } from '../protocol/key-scopes.ts'
import { following, type PageQuery } from './paging.ts'
import { keys, projects } from './schema.ts'

export type KeyRow = typeof keys.$inferSelect

/** Whose request it is, and what it may do. */
export type Caller = {
  readonly keyId: string
  readonly organizationId: string
  /** Null: a key for the organisation's administration alone. */
  readonly projectId: string | null
  readonly scopes: readonly KeyScope[]
  readonly expiresAtMs: number | null
  readonly lastUsedAtMs: number | null
  readonly limits: CallerLimits
}

/** @returns null for a key that never was, was revoked, or whose project is archived */
export async function findCaller(db: D1Database, hash: string): Promise<Caller | null> {
  const rows = await drizzle(db)
    .select({
      keyId: keys.id,
      organizationId: keys.organizationId,
      projectId: keys.projectId,
      scopes: keys.scopes,
      expiresAtMs: keys.expiresAtMs,
      lastUsedAtMs: keys.lastUsedAtMs,
      keyLimits: keys.limits,
      projectLimits: projects.limits,
    })
    .from(keys)
    .leftJoin(projects, eq(projects.id, keys.projectId))
    .where(and(eq(keys.hash, hash), isNull(keys.revokedAtMs), isNull(projects.archivedAtMs)))
    .limit(1)
  const found = rows[0]
  if (found === undefined) return null
  const { keyLimits, projectLimits, ...caller } = found
  return { ...caller, limits: { key: keyLimits, project: projectLimits ?? {} } }
}

/** Written after the response: a failure is logged and costs no answer. */
export async function markKeyUsed(db: D1Database, keyId: string, nowMs: number): Promise<void> {
  try {
    await drizzle(db).update(keys).set({ lastUsedAtMs: nowMs }).where(eq(keys.id, keyId))
  } catch (error) {
    console.error(JSON.stringify({ event: 'key_use_lost', key: keyId, error: String(error) }))
  }
}

export async function insertKey(db: D1Database, row: KeyRow): Promise<void> {
  await drizzle(db).insert(keys).values(row)
}

/** Keys of one project, or those of the organisation alone where `projectId` is null. */
export type KeyOwner = { readonly organizationId: string; readonly projectId: string | null }

const isOwned = ({ organizationId, projectId }: KeyOwner) =>
  and(
    eq(keys.organizationId, organizationId),
    projectId === null ? isNull(keys.projectId) : eq(keys.projectId, projectId),
    isNull(keys.revokedAtMs),
  )

/** @returns null for a key that is not there or was revoked */
export async function findKey(db: D1Database, owner: KeyOwner, id: string): Promise<KeyRow | null> {
  const rows = await drizzle(db)
    .select()
    .from(keys)
    .where(and(isOwned(owner), eq(keys.id, id)))
  return rows[0] ?? null
}

/** @returns up to one row more than the limit; null where `after` names no key */
export async function listKeys(
  db: D1Database,
  owner: KeyOwner,
  page: PageQuery,
): Promise<readonly KeyRow[] | null> {
  const cursor = page.after === undefined ? undefined : await findKey(db, owner, page.after)
  if (cursor === null) return null
  const by = page.order === 'asc' ? asc : desc
  return drizzle(db)
    .select()
    .from(keys)
    .where(
      and(isOwned(owner), cursor === undefined ? undefined : following(keys, cursor, page.order)),
    )
    .orderBy(by(keys.createdAtMs), by(keys.id))
    .limit(page.limit + 1)
}

/** @returns the key as it is now, or null where it is not there */
export async function updateKey(
  db: D1Database,
  owner: KeyOwner,
  id: string,
  change: Partial<Pick<KeyRow, 'name' | 'scopes' | 'expiresAtMs' | 'revokedAtMs' | 'limits'>>,
): Promise<KeyRow | null> {
  const rows = await drizzle(db)
    .update(keys)
    .set(change)
    .where(and(isOwned(owner), eq(keys.id, id)))
    .returning()
  return rows[0] ?? null
}

/** Puts a new key in the place of one, which ends at a time: both or neither. */
export async function replaceKey(
  db: D1Database,
  old: { readonly id: string; readonly expiresAtMs: number },
  row: KeyRow,
): Promise<void> {
  const database = drizzle(db)
  await database.batch([
    database.insert(keys).values(row),
    database.update(keys).set({ expiresAtMs: old.expiresAtMs }).where(eq(keys.id, old.id)),
  ])
}
