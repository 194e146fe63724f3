/** Bindings of the Worker, and one parse of its variables into a frozen config. */
import { z } from 'zod'
import type { JobObject } from './jobs/job-object.ts'

export type Bindings = {
  readonly DB: D1Database
  readonly BLOBS: R2Bucket
  readonly JOBS: DurableObjectNamespace<JobObject>
  /** Base URLs of the runner nodes, comma separated. */
  readonly RUNNER_URLS: string
  /** Bearer secret every runner call carries. */
  readonly RUNNER_SECRET: string
  /** Slug of the base model this gateway serves. */
  readonly BASE_MODEL?: string
}

export type Config = {
  readonly runnerUrls: readonly string[]
  readonly runnerSecret: string
  readonly baseModel: string
}

const variablesSchema = z.object({
  RUNNER_URLS: z
    .string()
    .transform((text) => text.split(',').map((url) => url.trim().replace(/\/+$/, '')))
    .pipe(z.array(z.url({ protocol: /^https?$/ })).min(1)),
  RUNNER_SECRET: z.string().min(1),
  BASE_MODEL: z.string().min(1).default('smollm2-135m-instruct'),
})

const parsed = new WeakMap<Bindings, Config>()

/**
 * The gateway's config, parsed once per isolate.
 * @throws {Error} a variable is missing or malformed; the message names it
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
  })
  parsed.set(env, config)
  return config
}
