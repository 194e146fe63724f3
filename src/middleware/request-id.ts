import { hexId } from '../protocol/openai/hex-id.ts'
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'

/**
 * Gives every request an id, by which its answer, its log lines and its runner requests can be
 * matched.
 */
export const requestId = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const id = `req_${hexId()}`
    c.set('requestId', id)
    await next()
    // Set afterwards, so that every answer has it, however a route made it.
    c.header('x-request-id', id)
  })
