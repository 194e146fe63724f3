import { createMiddleware } from 'hono/factory'
import { matchedRoutes } from 'hono/route'
import type { AppEnv } from '../context.ts'
import { invalidRequest } from '../protocol/openai/error.ts'
import { isMetadataFilter } from '../protocol/openai/fine-tuning.ts'

const PAGE = ['limit', 'after']
/**
 * Query parameters by route; a route that is not named here has none. One that ends with `[]` is a list:
 * it may be repeated, and is written with or without the brackets.
 */
export const QUERY_PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  'GET /v1/files': [...PAGE, 'order', 'purpose'],
  'GET /v1/batches': [...PAGE, 'order'],
  'GET /v1/experiments': [...PAGE, 'order'],
  'GET /v1/fine_tuning/jobs': [...PAGE, 'order', 'metadata'],
  'GET /v1/fine_tuning/jobs/:id/events': PAGE,
  'GET /v1/fine_tuning/jobs/:id/checkpoints': PAGE,
  'GET /tokenizer_info': ['model'],
  'GET /v1/models': PAGE,
  'GET /v1/tasks': [...PAGE, 'order'],
  'GET /v1/tasks/:name/versions': [...PAGE, 'order', 'tag'],
  'GET /v1/tasks/:name/versions/:version/adapter': ['format'],
  'GET /v1/organization/projects': [...PAGE, 'order', 'include_archived'],
  'GET /v1/organization/projects/:project/api_keys': [...PAGE, 'order'],
  'GET /v1/organization/projects/:project/service_accounts': [...PAGE, 'order'],
  'GET /v1/organization/projects/:project/rate_limits': [...PAGE, 'order'],
  'GET /v1/organization/admin_api_keys': [...PAGE, 'order'],
  'GET /v1/organization/usage/completions': [
    'start_time',
    'end_time',
    'bucket_width',
    'limit',
    'page',
    'project_ids[]',
    'api_key_ids[]',
    'models[]',
    'group_by[]',
  ],
}

/** A list's values, by its name without brackets; undefined where the query has none. */
export function readList(
  queries: Readonly<Record<string, readonly string[]>>,
  name: string,
): readonly string[] | undefined {
  const values = [...(queries[name] ?? []), ...(queries[listName(name)] ?? [])]
  return values.length === 0 ? undefined : values
}

const listName = (name: string): string => (name.endsWith('[]') ? name : `${name}[]`)

/** Refuses query parameters that the route does not read, so that no filter is silently ignored. */
export const knownQuery = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const route = matchedRoutes(c).at(-1)
    // Only middleware has the method ALL. A request that no route matches gets a 404 later.
    if (route !== undefined && route.method !== 'ALL') {
      const known = QUERY_PARAMETERS[`${route.method} ${route.path}`] ?? []
      for (const [name, values] of Object.entries(c.req.queries())) {
        const isFilter = known.includes('metadata') && isMetadataFilter(name)
        if (known.includes(listName(name))) continue
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
