import { Hono } from 'hono'
import type { AppEnv } from './context.ts'
import { describeForLog } from './http/error-log.ts'
import { incompleteBody, isIncompleteBody } from './http/body-chunks.ts'
import { allowedOrigins } from './middleware/allowed-origins.ts'
import { bearerAuth } from './middleware/bearer-auth.ts'
import { limitHeaders } from './middleware/limit-headers.ts'
import { gatewayTime } from './middleware/gateway-time.ts'
import { knownQuery } from './middleware/known-query.ts'
import { requestId } from './middleware/request-id.ts'
import { requireScope } from './middleware/require-scope.ts'
import { ApiError, internalError } from './protocol/openai/error.ts'
import { batches } from './routes/batches.ts'
import { chatCompletions } from './routes/chat-completions.ts'
import { compare } from './routes/compare.ts'
import { completions } from './routes/completions.ts'
import { files } from './routes/files.ts'
import { experiments } from './routes/experiments.ts'
import { fineTuningJobs } from './routes/fine-tuning.ts'
import { health } from './routes/health.ts'
import { models } from './routes/models.ts'
import { adminKeys, projectKeys } from './routes/organization/keys.ts'
import { organizationProjects } from './routes/organization/projects.ts'
import { rateLimits } from './routes/organization/rate-limits.ts'
import { organizationUsage } from './routes/organization/usage.ts'
import { openapi } from './routes/openapi.ts'
import { responses } from './routes/responses.ts'
import { tasks } from './routes/tasks.ts'
import { tokenizer } from './routes/tokenizer.ts'
import { unserved } from './routes/unserved.ts'
import { versions } from './routes/versions.ts'

const PATHS_WITH_KEY = ['/v1/*', '/tokenize', '/detokenize', '/tokenizer_info']

/** The gateway: routes, and the one place where errors become answers. */
export function createApp(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use(gatewayTime())
  app.use(requestId())
  app.use(allowedOrigins())
  app.get('/', (c) => c.json({ name: 'arcana', api: '/v1', health: '/healthz', docs: '/docs' }))
  app.route('/healthz', health)
  const auth = bearerAuth()
  const scope = requireScope()
  const limits = limitHeaders()
  for (const path of PATHS_WITH_KEY) app.use(path, auth, scope, limits)
  app.use(knownQuery())
  app.route('/v1/chat/completions', chatCompletions)
  app.route('/v1/completions', completions)
  app.route('/v1/responses', responses)
  app.route('/v1/models', models)
  app.route('/v1/files', files)
  app.route('/v1/batches', batches)
  app.route('/v1/fine_tuning/jobs', fineTuningJobs)
  app.route('/v1/tasks', tasks)
  app.route('/v1/tasks', versions)
  app.route('/v1/compare', compare)
  app.route('/v1/experiments', experiments)
  app.route('/v1/organization/projects', organizationProjects)
  app.route('/v1/organization/projects', projectKeys)
  app.route('/v1/organization/projects', rateLimits)
  app.route('/v1/organization/admin_api_keys', adminKeys)
  app.route('/v1/organization/usage', organizationUsage)
  app.route('/', openapi)
  app.route('/', tokenizer)
  app.route('/', unserved)

  app.notFound((c) => {
    const error = new ApiError(404, `Unknown request URL: ${c.req.method} ${c.req.path}`, {
      code: 'unknown_url',
    })
    return c.json(error.toBody(), 404)
  })

  app.onError((error, c) => {
    const isGone = !(error instanceof ApiError) && isIncompleteBody(error, c.req.raw)
    const known = error instanceof ApiError ? error : isGone ? incompleteBody() : null
    if (isGone) {
      console.warn(JSON.stringify({ request_id: c.get('requestId'), error: known?.code }))
    } else if (known === null || known.status >= 500) {
      console.error(
        JSON.stringify({
          request_id: c.get('requestId'),
          path: c.req.path,
          error: known?.code ?? error.name,
          ...describeForLog(error, known === null),
        }),
      )
    }
    const answer = known ?? internalError()
    if (answer.retryAfterSeconds !== null) c.header('retry-after', String(answer.retryAfterSeconds))
    if (answer.isFinal) c.header('x-should-retry', 'false')
    return c.json(answer.toBody(), answer.status)
  })
  return app
}
