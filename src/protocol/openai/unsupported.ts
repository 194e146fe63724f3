import { z } from 'zod'
import { invalidRequest } from './error.ts'

/**
 * Fields of OpenAI's API that a route does not implement, each with a schema of the values
 * that ask for nothing.
 * Any other value would change the answer, so it is refused rather than ignored.
 */
export type Unsupported = Readonly<Record<string, z.ZodType>>

const anything = z.unknown()
/** No value of the field is allowed. */
export const nothing = z.never()
export const emptyArray = z.array(z.unknown()).max(0)

/** Fields that name the caller or tune a cache; the answer is the same with and without them. */
export const CALLER_FIELDS: Unsupported = {
  prompt_cache_key: anything,
  prompt_cache_options: anything,
  prompt_cache_retention: anything,
  safety_identifier: anything,
  user: anything,
}
/** For routes that do not give `metadata` back. */
export const IGNORED_EVERYWHERE: Unsupported = { ...CALLER_FIELDS, metadata: anything }

export type ReadBody = {
  /** What the route's own schema reads. */
  readonly body: Record<string, unknown>
  /** Fields that were given and do nothing here. */
  readonly ignored: readonly string[]
}

/**
 * Removes fields that change nothing from a request, and refuses those that its route does not
 * serve.
 * @param unsupported fields whose allowed values ask for what is done anyway
 * @param ignored fields that the answer names as ignored
 * @throws {ApiError} 400 naming the field
 */
export function refuseUnsupported(
  given: Record<string, unknown>,
  unsupported: Unsupported,
  ignored: Unsupported = IGNORED_EVERYWHERE,
): ReadBody {
  const body: Record<string, unknown> = {}
  const names: string[] = []
  for (const [field, value] of Object.entries(given)) {
    // OpenAI's clients send null for what they leave out.
    if (value === null) continue
    const isIgnored = Object.hasOwn(ignored, field)
    const rules = isIgnored ? ignored : unsupported
    const harmless = Object.hasOwn(rules, field) ? rules[field] : undefined
    if (harmless === undefined) body[field] = value
    else if (!harmless.safeParse(value).success) {
      throw invalidRequest(
        `${field} = ${shorten(JSON.stringify(value))} is not supported by this gateway.`,
        field,
        'unsupported_parameter',
      )
    } else if (isIgnored) names.push(field)
  }
  return { body, ignored: names }
}

/** Names the fields of a request that did nothing. */
export const ignoredHeader = (ignored: readonly string[]): Record<string, string> =>
  ignored.length === 0 ? {} : { 'x-arcana-ignored': ignored.join(', ') }

const MAX_QUOTED_CHARS = 80
const shorten = (text: string) =>
  text.length <= MAX_QUOTED_CHARS ? text : `${text.slice(0, MAX_QUOTED_CHARS)}…`
