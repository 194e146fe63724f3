import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'

/** Names every request, so that an answer, a log line and a runner's request can be matched. */
export const requestId = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const id = `req_${crypto.randomUUID().replaceAll('-', '')}`
    c.set('requestId', id)
    await next()
    // Afterwards, so that it is on every answer, however a route made it.
    c.header('x-request-id', id)
  })
