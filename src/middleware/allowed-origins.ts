import type { Context } from 'hono'
import { cors } from 'hono/cors'
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { configOf } from '../env.ts'
import { allowedOrigin, EXPOSED_HEADERS } from '../protocol/origins.ts'

const METHODS = ['GET', 'POST', 'DELETE']
/** How long a browser keeps a preflight's answer. */
const MAX_AGE_SECONDS = 600

/**
 * Lets pages of allowed origins call from a browser: preflights, which carry no key, are answered
 * here. For any other page nothing changes, and its browser keeps the answer from it.
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
