import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { findProjectOfKey } from '../db/keys.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { sha256Hex } from '../storage/digest.ts'
import { TtlCache } from '../ttl-cache.ts'

/**
 * How long an isolate trusts a key that it has read: a revoked key works for this long at most.
 * Reading D1 for every request would slow each of them down.
 */
const KEY_TTL_MS = 5_000
const MAX_CACHED_KEYS = 1024
const BEARER = /^Bearer +(\S+) *$/i

/** Finds the project of a request's key. The error does not say which check failed. */
export const bearerAuth = () => {
  const projects = new TtlCache<string>(KEY_TTL_MS, MAX_CACHED_KEYS)
  return createMiddleware<AppEnv>(async (c, next) => {
    const key = BEARER.exec(c.req.header('authorization') ?? '')?.[1]
    if (key === undefined) throw invalidKey()
    const hash = await sha256Hex(new TextEncoder().encode(key))
    let projectId = projects.get(hash)
    if (projectId === undefined) {
      const found = await findProjectOfKey(c.env.DB, hash)
      if (found === null) throw invalidKey()
      projectId = found
      projects.set(hash, projectId)
    }
    c.set('projectId', projectId)
    await next()
  })
}

const invalidKey = () =>
  new ApiError(401, 'Incorrect API key provided. Send it as: Authorization: Bearer KEY', {
    type: 'authentication_error',
    code: 'invalid_api_key',
  })
