import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { findCaller, markKeyUsed, type Caller } from '../db/keys.ts'
import { ApiError } from '../protocol/openai/error.ts'
import { sha256Hex } from '../storage/digest.ts'
import { TtlCache } from '../ttl-cache.ts'

/** A revoked key stops working within this time; a D1 read a request costs more than it brings. */
const KEY_TTL_MS = 5_000
const MAX_CACHED_KEYS = 1024
/** A key's last use is written no oftener. */
const LAST_USE_MS = 60_000
const BEARER = /^Bearer +(\S+) *$/i

/** Key → caller, cached in the isolate. The answer does not say which of the checks failed. */
export const bearerAuth = () => {
  const callers = new TtlCache<Caller>(KEY_TTL_MS, MAX_CACHED_KEYS)
  return createMiddleware<AppEnv>(async (c, next) => {
    const key = BEARER.exec(c.req.header('authorization') ?? '')?.[1]
    if (key === undefined) throw invalidKey()
    const hash = await sha256Hex(new TextEncoder().encode(key))
    const nowMs = Date.now()
    let caller = callers.get(hash)
    if (caller === undefined) {
      const found = await findCaller(c.env.DB, hash)
      if (found === null) throw invalidKey()
      caller = found
      callers.set(hash, caller)
      if (nowMs - (caller.lastUsedAtMs ?? 0) >= LAST_USE_MS) {
        c.executionCtx.waitUntil(markKeyUsed(c.env.DB, caller.keyId, nowMs))
      }
    }
    if (caller.expiresAtMs !== null && caller.expiresAtMs <= nowMs) throw invalidKey()
    c.set('caller', caller)
    // Routes of a project are kept from keys without one by `requireScope`.
    c.set('projectId', caller.projectId ?? '')
    await next()
  })
}

const invalidKey = () =>
  new ApiError(401, 'Incorrect API key provided. Send it as: Authorization: Bearer KEY', {
    type: 'authentication_error',
    code: 'invalid_api_key',
  })
