/** Answers of `/v1/organization`. */
import { z } from 'zod'
import { KEY_SCOPES } from '../../protocol/key-scopes.ts'
import type {
  AdminKey,
  Project,
  ProjectKey,
  RateLimit,
  ServiceAccount,
  UsagePage,
} from '../../protocol/openai/organization.ts'
import { unixSeconds } from './common.ts'

const count = z.int().min(0)

export const project = z.object({
  id: z.string(),
  object: z.literal('organization.project'),
  name: z.string(),
  created_at: unixSeconds,
  archived_at: unixSeconds.nullable(),
  status: z.enum(['active', 'archived']),
}) satisfies z.ZodType<Project>

const keyFields = {
  id: z.string(),
  name: z.string(),
  redacted_value: z.string().describe("The key's first characters."),
  created_at: unixSeconds,
  last_used_at: unixSeconds.nullable(),
  expires_at: unixSeconds.nullable(),
  scopes: z.array(z.enum(KEY_SCOPES)),
  value: z.string().exactOptional().describe('The key itself: only the answer that makes it.'),
}

export const serviceAccount = z.object({
  id: z.string(),
  object: z.literal('organization.project.service_account'),
  name: z.string(),
  role: z.literal('member'),
  created_at: unixSeconds,
}) satisfies z.ZodType<ServiceAccount>

export const newServiceAccount = serviceAccount.extend({
  api_key: z.object({
    object: z.literal('organization.project.service_account.api_key'),
    id: z.string(),
    name: z.string(),
    created_at: unixSeconds,
    value: z.string(),
  }),
})

export const projectKey = z.object({
  object: z.literal('organization.project.api_key'),
  ...keyFields,
  owner: z.object({ type: z.literal('service_account'), service_account: serviceAccount }),
  owner_project_access: z.literal('active'),
}) satisfies z.ZodType<ProjectKey>

export const adminKey = z.object({
  object: z.literal('organization.admin_api_key'),
  ...keyFields,
  owner: z.object({
    type: z.literal('service_account'),
    object: z.literal('organization.service_account'),
    id: z.string(),
    name: z.string(),
    created_at: unixSeconds,
    role: z.literal('owner'),
  }),
}) satisfies z.ZodType<AdminKey>

const limit = count.nullable().describe('Null where there is no limit.')

export const rateLimit = z.object({
  object: z.literal('project.rate_limit'),
  id: z.string(),
  model: z.literal('*'),
  api_key_id: z.string().nullable().describe('Null for the limits of the project itself.'),
  max_requests_per_1_minute: limit,
  max_tokens_per_1_minute: limit,
  max_concurrent_requests: limit,
  max_tokens_per_1_month: limit,
}) satisfies z.ZodType<RateLimit>

export const usagePage = z.object({
  object: z.literal('page'),
  data: z.array(
    z.object({
      object: z.literal('bucket'),
      start_time: unixSeconds,
      end_time: unixSeconds,
      results: z.array(
        z.object({
          object: z.literal('organization.usage.completions.result'),
          input_tokens: count,
          input_cached_tokens: count,
          output_tokens: count,
          num_model_requests: count,
          project_id: z.string().nullable(),
          api_key_id: z.string().nullable(),
          model: z.string().nullable(),
          user_id: z.null(),
          batch: z.null(),
        }),
      ),
    }),
  ),
  has_more: z.boolean(),
  next_page: z.string().nullable(),
}) satisfies z.ZodType<UsagePage>
