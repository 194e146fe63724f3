/** One operation of the gateway's API, as the routes serve it. `document.ts` writes it as OpenAPI. */
import type { z } from 'zod'
import type { Unsupported } from '../protocol/openai/unsupported.ts'
import type { ErrorStatus } from '../protocol/openai/error.ts'

export type Json = { readonly [key: string]: unknown }

/** Headers that routes of answers read. */
export const REQUEST_HEADERS = {
  'x-task': {
    description: 'The task, its version (`name@2`), or a sum of tasks (`a*0.5+b`) to answer with.',
    schema: { type: 'string' },
  },
  'x-arcana-timeout': {
    description: 'Seconds after which the answer is no longer wanted.',
    schema: { type: 'string', pattern: String.raw`^[0-9]+(\.[0-9]+)?$` },
  },
  'x-arcana-choice': {
    description: '`off` lets a task that has labels answer in free text.',
    schema: { type: 'string', enum: ['on', 'off'] },
  },
} as const
export type RequestHeader = keyof typeof REQUEST_HEADERS

/** A body, or an answer, in one form. */
type JsonBody = { readonly schema: z.ZodType; readonly name: string }

export type RequestBody =
  | (JsonBody & {
      readonly kind: 'json'
      /** Null is read as absent in the body's own fields. */
      readonly dropsNulls?: boolean
      /** Fields that may be given and are not read. */
      readonly unread?: Unsupported
    })
  | { readonly kind: 'form'; readonly schema: Json }

export type Answer =
  | (JsonBody & { readonly kind: 'json'; readonly event?: JsonBody })
  | {
      readonly kind: 'bytes'
      readonly contentTypes: readonly string[]
      /** Descriptions of the headers that this answer has. */
      readonly headers?: Readonly<Record<string, string>>
    }
  | { readonly kind: 'html' }
  /** An object that only this document describes. */
  | { readonly kind: 'object'; readonly schema: Json }

export type Operation = {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** As Hono writes it: `/v1/files/:id`. */
  readonly path: string
  readonly id: string
  readonly tag: string
  readonly summary: string
  readonly description?: string
  /** Has the query's parameters; `known-query.ts` says which of them the route reads. */
  readonly query?: z.ZodObject
  readonly headers?: readonly RequestHeader[]
  readonly body?: RequestBody
  readonly answer: Answer
  /** Statuses of errors beside those that follow from the rest. */
  readonly errors?: readonly ErrorStatus[]
  readonly isPublic?: boolean
  /**
   * Operations that its answer leads to, by their ids, each with the values of their parameters as
   * OpenAPI's links write them.
   */
  readonly links?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

export const json = (name: string, schema: z.ZodType): Extract<Answer, { kind: 'json' }> => ({
  kind: 'json',
  name,
  schema,
})

/** Statuses of what can go wrong where a runner is asked. */
export const RUNNER_ERRORS = [502, 503, 504] as const

const OWN_ID = '$response.body#/id'

/** Links to operations that take the answer's id in one parameter. */
export const byId = (parameter: string, ...operations: readonly string[]) =>
  Object.fromEntries(operations.map((id) => [id, { [parameter]: OWN_ID }]))

/** The same for operations that take the request's project too. */
export const byProjectAndId = (...operations: readonly string[]) =>
  Object.fromEntries(
    operations.map((id) => [id, { project: '$request.path.project', key: OWN_ID }]),
  )
