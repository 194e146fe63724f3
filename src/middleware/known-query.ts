import { createMiddleware } from 'hono/factory'
import { matchedRoutes } from 'hono/route'
import type { AppEnv } from '../context.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { isMetadataFilter } from '../protocol/openai/fine-tuning.ts'

const PAGE = ['limit', 'after']
/** The query parameters of routes. A route that is not in this table has none. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  'GET /v1/files': [...PAGE, 'order', 'purpose'],
  'GET /v1/fine_tuning/jobs': [...PAGE, 'order', 'metadata'],
  'GET /v1/fine_tuning/jobs/:id/events': PAGE,
  'GET /v1/fine_tuning/jobs/:id/checkpoints': PAGE,
  'GET /v1/tasks/:name/versions/:version/adapter': ['format'],
}

/** Refuses query parameters that the route does not read, so that no filter is silently ignored. */
export const knownQuery = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const route = matchedRoutes(c).at(-1)
    // Only middleware has the method ALL. A request that no route matches gets a 404 later.
    if (route !== undefined && route.method !== 'ALL') {
      const known = KNOWN[`${route.method} ${route.path}`] ?? []
      for (const [name, values] of Object.entries(c.req.queries())) {
        const isFilter = known.includes('metadata') && isMetadataFilter(name)
        if (!isFilter && !known.includes(name)) {
          throw invalidRequest(`Unrecognized query parameter supplied: ${name}`, name)
        }
        if (values.length > 1) {
          throw invalidRequest(`The query parameter '${name}' is given more than once.`, name)
        }
      }
    }
    await next()
  })
