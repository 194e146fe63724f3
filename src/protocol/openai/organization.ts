/** `/v1/organization`: OpenAI's administration shapes, and what Arcana's keys have beside them. */
import { z } from 'zod'
import { KEY_SCOPES, type KeyScope } from '../key-scopes.ts'
import { pageQuerySchema } from './files.ts'

const MAX_NAME_CHARS = 256
const MAX_PAGE = 100
const DEFAULT_PAGE = 20
const MAX_LIFETIME_SECONDS = 10 * 365 * 86_400
/** An old key goes on beside its successor for at most this long. */
const MAX_GRACE_SECONDS = 30 * 86_400
const DEFAULT_SCOPES: KeyScope[] = ['inference', 'tasks:write']

const nameSchema = z.string().trim().min(1).max(MAX_NAME_CHARS)
const lifetimeSchema = z.int().min(1).max(MAX_LIFETIME_SECONDS)
const scopesSchema = z
  .array(z.enum(KEY_SCOPES))
  .min(1, 'must name at least one scope')
  .transform((scopes) => KEY_SCOPES.filter((scope) => scopes.includes(scope)))

export const organizationPageSchema = pageQuerySchema(DEFAULT_PAGE, MAX_PAGE)
export const projectPageSchema = organizationPageSchema.extend({
  include_archived: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true'),
})

export const createProjectSchema = z.strictObject({ name: nameSchema })
export const updateProjectSchema = createProjectSchema

export const createKeySchema = z.strictObject({
  name: nameSchema,
  scopes: scopesSchema.default(DEFAULT_SCOPES),
  expires_in_seconds: lifetimeSchema.nullish(),
})
export const createAdminKeySchema = createKeySchema.omit({ scopes: true })
export const createServiceAccountSchema = z.strictObject({ name: nameSchema })
export const updateKeySchema = z
  .strictObject({
    name: nameSchema.optional(),
    scopes: scopesSchema.optional(),
    expires_in_seconds: lifetimeSchema.optional(),
  })
  .refine((body) => Object.values(body).some((value) => value !== undefined), {
    message: 'give at least one of name, scopes and expires_in_seconds',
  })
export const rotateKeySchema = z.strictObject({
  /** For how long the old key still works. */
  grace_seconds: z.int().min(0).max(MAX_GRACE_SECONDS).default(0),
})

const limitSchema = z.int().min(0).max(Number.MAX_SAFE_INTEGER).nullish()
/** OpenAI's two fields and Arcana's, by the limits that they set. */
export const RATE_LIMIT_FIELDS = {
  max_requests_per_1_minute: 'requestsPerMinute',
  max_tokens_per_1_minute: 'tokensPerMinute',
  max_concurrent_requests: 'concurrentRequests',
  max_tokens_per_1_month: 'tokensPerMonth',
} as const
export type RateLimitField = keyof typeof RATE_LIMIT_FIELDS
/** Null takes a limit away. */
export const updateRateLimitSchema = z.strictObject({
  max_requests_per_1_minute: limitSchema,
  max_tokens_per_1_minute: limitSchema,
  max_concurrent_requests: limitSchema,
  max_tokens_per_1_month: limitSchema,
} satisfies Record<RateLimitField, z.ZodType>)

/** Null: no limit. */
export type RateLimit = Readonly<Record<RateLimitField, number | null>> & {
  readonly object: 'project.rate_limit'
  readonly id: string
  /** A limit counts all models together. */
  readonly model: '*'
  /** Null for the limits of the project itself. */
  readonly api_key_id: string | null
}

export type Project = {
  readonly id: string
  readonly object: 'organization.project'
  readonly name: string
  /** Unix seconds, as `archived_at`. */
  readonly created_at: number
  readonly archived_at: number | null
  readonly status: 'active' | 'archived'
}

type KeyFields = {
  readonly id: string
  readonly name: string
  /** The key's first characters, by which its owner knows it. */
  readonly redacted_value: string
  /** Unix seconds, as the other times. */
  readonly created_at: number
  readonly last_used_at: number | null
  readonly expires_at: number | null
  readonly scopes: readonly KeyScope[]
  /** The key itself, in the answer that makes it alone. */
  readonly value?: string
}

export type ServiceAccount = {
  readonly id: string
  readonly object: 'organization.project.service_account'
  readonly name: string
  readonly role: 'member'
  readonly created_at: number
}

export type ProjectKey = KeyFields & {
  readonly object: 'organization.project.api_key'
  /** Each key is a service account of its own: there are no users here. */
  readonly owner: { readonly type: 'service_account'; readonly service_account: ServiceAccount }
  readonly owner_project_access: 'active'
}

export type AdminKey = KeyFields & {
  readonly object: 'organization.admin_api_key'
  readonly owner: {
    readonly type: 'service_account'
    readonly object: 'organization.service_account'
    readonly id: string
    readonly name: string
    readonly created_at: number
    readonly role: 'owner'
  }
}

/** What each bucket's sums are told apart by. */
export const USAGE_GROUPS = ['project_id', 'api_key_id', 'model'] as const
export type UsageGroup = (typeof USAGE_GROUPS)[number]

/** Seconds of a bucket, and how many of them a page has. */
export const USAGE_BUCKETS = {
  '1m': { seconds: 60, defaultLimit: 60, maxLimit: 1440 },
  '1h': { seconds: 3600, defaultLimit: 24, maxLimit: 168 },
  '1d': { seconds: 86_400, defaultLimit: 7, maxLimit: 31 },
} as const
const MAX_FILTER_VALUES = 100
const MAX_UNIX_SECONDS = 100_000_000_000

const filterSchema = z.array(z.string().min(1)).max(MAX_FILTER_VALUES).optional()
const secondsSchema = z.coerce.number().int().min(0).max(MAX_UNIX_SECONDS)
export const usageQuerySchema = z
  .object({
    start_time: secondsSchema,
    end_time: secondsSchema.optional(),
    bucket_width: z.enum(['1m', '1h', '1d']).default('1d'),
    limit: z.coerce.number().int().min(1).optional(),
    /** Where the next page begins: a bucket's start, Unix seconds. */
    page: secondsSchema.optional(),
    project_ids: filterSchema,
    api_key_ids: filterSchema,
    models: filterSchema,
    group_by: z.array(z.enum(USAGE_GROUPS)).default([]),
  })
  .superRefine(({ bucket_width: width, limit, start_time: start, end_time: end }, context) => {
    const { maxLimit } = USAGE_BUCKETS[width]
    if (limit !== undefined && limit > maxLimit) {
      const message = `at most ${maxLimit} buckets of ${width} are a page`
      context.addIssue({ code: 'custom', path: ['limit'], message })
    }
    if (end !== undefined && end <= start) {
      const message = 'must be after start_time'
      context.addIssue({ code: 'custom', path: ['end_time'], message })
    }
  })

export type UsageResult = {
  readonly object: 'organization.usage.completions.result'
  readonly input_tokens: number
  readonly input_cached_tokens: number
  readonly output_tokens: number
  readonly num_model_requests: number
  /** Null unless asked for by `group_by`. */
  readonly project_id: string | null
  readonly api_key_id: string | null
  readonly model: string | null
  /** Nothing here tells users or batches apart. */
  readonly user_id: null
  readonly batch: null
}

export type UsagePage = {
  readonly object: 'page'
  readonly data: readonly {
    readonly object: 'bucket'
    readonly start_time: number
    readonly end_time: number
    readonly results: readonly UsageResult[]
  }[]
  readonly has_more: boolean
  readonly next_page: string | null
}
