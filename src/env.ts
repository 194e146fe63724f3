/** The Worker's bindings, and its variables parsed into a frozen config. */
import { z } from 'zod'
import { readOrigins } from './protocol/origins.ts'
import type { BatchCalls } from './batches/batch-calls.ts'
import { splitList } from './protocol/split-list.ts'
import type { JobCalls } from './jobs/job-calls.ts'
import type { LimitCalls } from './limits/lease-call.ts'

export type Bindings = {
  readonly DB: D1Database
  readonly BLOBS: R2Bucket
  readonly JOBS: DurableObjectNamespace<JobCalls & Rpc.DurableObjectBranded>
  readonly BATCHES: DurableObjectNamespace<BatchCalls & Rpc.DurableObjectBranded>
  readonly LIMITS: DurableObjectNamespace<LimitCalls & Rpc.DurableObjectBranded>
  /** The base URLs of the runner nodes, separated by commas. */
  readonly RUNNER_URLS: string
  /** The bearer secret of every call to a runner. */
  readonly RUNNER_SECRET: string
  /**
   * The slugs of the base models that this gateway serves, separated by commas. The first serves
   * requests that name none.
   */
  readonly BASE_MODELS?: string
  /** The older name of BASE_MODELS; read only where that is absent. */
  readonly BASE_MODEL?: string
  /**
   * Hosts that jobs may ask for grades, as `host` or `host:port`, separated by commas; none by
   * default.
   */
  readonly GRADER_HOSTS?: string
  /**
   * Origins whose pages may call from a browser, separated by commas, or `*`; only its own by
   * default.
   */
  readonly ALLOWED_ORIGINS?: string
}

export type Config = {
  readonly runnerUrls: readonly string[]
  readonly runnerSecret: string
  /** At least one; the first is the default. */
  readonly baseModels: readonly [string, ...string[]]
  /** In the form of `URL.host`. */
  readonly graderHosts: readonly string[]
  readonly allowedOrigins: readonly string[]
}

const DEFAULT_BASE_MODEL = 'smollm2-135m-instruct'

const splitHosts = (text: string): string[] => splitList(text).map((host) => host.toLowerCase())

const slugsSchema = z
  .string()
  .transform((text) => [...new Set(splitList(text))])
  .pipe(z.tuple([z.string()], z.string()))
  .optional()

const variablesSchema = z.object({
  RUNNER_URLS: z
    .string()
    .transform((text) => text.split(',').map((url) => url.trim().replace(/\/+$/, '')))
    .pipe(z.array(z.url({ protocol: /^https?$/ })).min(1)),
  RUNNER_SECRET: z.string().min(1),
  BASE_MODELS: slugsSchema,
  BASE_MODEL: slugsSchema,
  GRADER_HOSTS: z.string().default('').transform(splitHosts),
  ALLOWED_ORIGINS: z
    .string()
    .default('')
    .transform((text, context) => {
      try {
        return readOrigins(text)
      } catch (error) {
        context.addIssue({ code: 'custom', message: String(error) })
        return z.NEVER
      }
    }),
})

const parsed = new WeakMap<Bindings, Config>()

/**
 * The gateway's config. It is parsed once for each isolate.
 * @throws {Error} naming a variable that is missing or malformed
 */
export function configOf(env: Bindings): Config {
  const known = parsed.get(env)
  if (known !== undefined) return known
  const result = variablesSchema.safeParse(env)
  if (!result.success) {
    const issue = result.error.issues[0]
    throw new Error(`gateway variable ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  }
  const config = Object.freeze({
    runnerUrls: Object.freeze(result.data.RUNNER_URLS),
    runnerSecret: result.data.RUNNER_SECRET,
    baseModels:
      result.data.BASE_MODELS ?? result.data.BASE_MODEL ?? ([DEFAULT_BASE_MODEL] as const),
    graderHosts: Object.freeze(result.data.GRADER_HOSTS),
    allowedOrigins: Object.freeze(result.data.ALLOWED_ORIGINS),
  })
  parsed.set(env, config)
  return config
}
