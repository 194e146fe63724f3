import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'

/** Says on each answer of a model where its limits stand, and ends the admission of one that failed. */
export const limitHeaders = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    await next()
    const admission = c.get('admission')
    if (admission === undefined) return
    if (c.error !== undefined) admission.end()
    for (const [name, value] of Object.entries(admission.headers())) c.header(name, value)
  })
