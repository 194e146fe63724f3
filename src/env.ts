/** The Worker's bindings, and its variables parsed into a frozen config. */
import { z } from 'zod'
import { readOrigins } from './protocol/origins.ts'
import type { BatchCalls } from './batches/batch-calls.ts'
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
  /** The slug of the base model that this gateway serves. */
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
  readonly baseModel: string
  /** In the form of `URL.host`. */
  readonly graderHosts: readonly string[]
  readonly allowedOrigins: readonly string[]
}

const splitHosts = (text: string): string[] =>
  text
    .split(',')
    .map((host) => host.trim().toLowerCase())
    .filter((host) => host !== '')

const variablesSchema = z.object({
  RUNNER_URLS: z
    .string()
    .transform((text) => text.split(',').map((url) => url.trim().replace(/\/+$/, '')))
    .pipe(z.array(z.url({ protocol: /^https?$/ })).min(1)),
  RUNNER_SECRET: z.string().min(1),
  BASE_MODEL: z.string().min(1).default('smollm2-135m-instruct'),
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
    baseModel: result.data.BASE_MODEL,
    graderHosts: Object.freeze(result.data.GRADER_HOSTS),
    allowedOrigins: Object.freeze(result.data.ALLOWED_ORIGINS),
  })
  parsed.set(env, config)
  return config
}
