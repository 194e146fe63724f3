import type { z } from 'zod'
import { ApiError, invalidField, invalidRequest } from './openai/error.ts'

/**
 * Parses a value from outside by its schema.
 * @param at the value's place in the request, if it is only a part of it
 * @throws {ApiError} 400 whose `param` is the path of the first fault, as in `messages[0].content`
 */
export function parseWire<T>(schema: z.ZodType<T>, value: unknown, at?: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  if (issue === undefined) throw invalidRequest('The request is malformed.')
  throw toApiError(at === undefined ? issue : { ...issue, path: [at, ...issue.path] })
}

function toApiError(issue: z.core.$ZodIssue): ApiError {
  if (issue.code === 'unrecognized_keys') {
    const param = formatPath([...issue.path, issue.keys[0] ?? ''])
    return invalidRequest(`Unrecognized request argument supplied: ${param}`, param)
  }
  const param = formatPath(issue.path)
  if (param === '') return invalidRequest(`The request body is malformed: ${issue.message}`)
  const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined')
  return missing
    ? invalidRequest(`Missing required parameter: '${param}'.`, param)
    : invalidField(param, issue.message)
}

/** `['messages', 0, 'content']` → `messages[0].content`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`
    return text === '' ? String(key) : `${text}.${String(key)}`
  }, '')
}
