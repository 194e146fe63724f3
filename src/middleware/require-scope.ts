import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../context.ts'
import { missingScope, ApiError } from '../protocol/openai/error.ts'
import type { KeyScope } from '../protocol/key-scopes.ts'

/** Lets a request pass whose key may do what its route does. */
export const requireScope = () =>
  createMiddleware<AppEnv>(async (c, next) => {
    const { scopes, projectId } = c.get('caller')
    const needed = scopesOf(c.req.method, c.req.path)
    if (!needed.some((scope) => scopes.includes(scope))) throw missingScope(needed[0])
    if (projectId === null && needed[0] !== 'admin') {
      throw new ApiError(403, 'This key is of no project: it only serves /v1/organization.', {
        code: 'project_required',
      })
    }
    await next()
  })

/** Scopes of which a request needs one. What is not named here asks models. */
export function scopesOf(
  method: string,
  path: string,
): readonly [KeyScope, ...(readonly KeyScope[])] {
  if (/^\/v1\/organization(\/|$)/.test(path)) return ['admin']
  if (/^\/v1\/(files|fine_tuning|experiments)(\/|$)/.test(path)) return ['tasks:write']
  const isRead = method === 'GET' || method === 'HEAD'
  if (/^\/v1\/(tasks|models)(\/|$)/.test(path)) {
    const isContent = /\/adapter$/.test(path)
    return isRead && !isContent ? ['inference', 'tasks:write'] : ['tasks:write']
  }
  return ['inference']
}
