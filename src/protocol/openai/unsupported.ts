import { invalidRequest } from './error.ts'

/**
 * Fields of OpenAI's API that a route does not implement, each with the values that change nothing.
 * Any other value would change the answer, so it is refused rather than ignored.
 */
export type Unsupported = Readonly<Record<string, (value: unknown) => boolean>>

/** Fields that name the caller or tune a cache; the answer is the same with and without them. */
const HARMLESS = new Set([
  'metadata',
  'prompt_cache_key',
  'prompt_cache_options',
  'prompt_cache_retention',
  'safety_identifier',
  'user',
])

export const is =
  (...allowed: readonly unknown[]) =>
  (value: unknown) =>
    allowed.includes(value)

/**
 * Takes out of a request what changes nothing, and refuses what its route does not do.
 * @throws {ApiError} 400 naming the field
 */
export function refuseUnsupported(
  body: Record<string, unknown>,
  unsupported: Unsupported,
): Record<string, unknown> {
  const kept: Record<string, unknown> = {}
  for (const [field, value] of Object.entries(body)) {
    if (value === null || HARMLESS.has(field)) continue
    const isHarmless = Object.hasOwn(unsupported, field) ? unsupported[field] : undefined
    if (isHarmless === undefined) kept[field] = value
    else if (!isHarmless(value)) {
      throw invalidRequest(
        `${field} = ${shorten(JSON.stringify(value))} is not supported by this gateway.`,
        field,
        'unsupported_parameter',
      )
    }
  }
  return kept
}

const MAX_QUOTED_CHARS = 80
const shorten = (text: string) =>
  text.length <= MAX_QUOTED_CHARS ? text : `${text.slice(0, MAX_QUOTED_CHARS)}…`
