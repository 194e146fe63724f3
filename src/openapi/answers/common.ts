/** Schemas that many answers share. Each answer's schema must fit the type that its route writes. */
import { z } from 'zod'
import type { ErrorBody } from '../../protocol/openai/error.ts'
import type { Page } from '../../protocol/openai/files.ts'

export const unixSeconds = z.int().min(0).describe('Unix seconds.')
export const digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .describe('SHA-256, in hexadecimal.')
export const position = z.enum(['before', 'after'])
export const scope = z
  .enum(['generated', 'all'])
  .describe('The positions that an adapter rotates: what is generated, or the prompt too.')

export const errorBody = z.object({
  error: z.object({
    message: z.string(),
    type: z.enum([
      'invalid_request_error',
      'authentication_error',
      'rate_limit_error',
      'server_error',
      'requests',
      'tokens',
      'insufficient_quota',
    ]),
    param: z.string().nullable().describe('The field of the request that is at fault.'),
    code: z.string().nullable(),
  }),
}) satisfies z.ZodType<ErrorBody>

/** A page of a list, in OpenAI's shape. */
export const pageOf = <T extends { readonly id: string }>(item: z.ZodType<T>) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  }) satisfies z.ZodType<Page<T>>

export const deletedOf = (object: string) =>
  z.object({ id: z.string(), object: z.literal(object), deleted: z.literal(true) })
