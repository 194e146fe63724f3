import type { Context } from 'hono'
import { cors } from 'hono/cors'
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { configOf } from '../env.ts'
import { allowedOrigin, EXPOSED_HEADERS } from '../protocol/origins.ts'

const METHODS = ['GET', 'POST', 'DELETE']
/** How long a browser may keep the answer to a preflight. */
const MAX_AGE_SECONDS = 600

/**
 * Lets pages of allowed origins call from a browser. It answers preflights, which carry no key.
 * Pages of other origins get no header from it, so their browsers hide the answers from them.
 */
export const allowedOrigins = () => {
  const origin = (text: string, c: Context<AppEnv>): string | null =>
    allowedOrigin(text, new URL(c.req.url).host, configOf(c.env).allowedOrigins)
  const handle = cors({
    origin,
    allowMethods: METHODS,
    exposeHeaders: [EXPOSED_HEADERS],
    maxAge: MAX_AGE_SECONDS,
  })
  return createMiddleware<AppEnv>(async (c, next) => {
    if (origin(c.req.header('origin') ?? '', c) !== null) return handle(c, next)
    await next()
    c.header('vary', 'Origin', { append: true })
  })
}
