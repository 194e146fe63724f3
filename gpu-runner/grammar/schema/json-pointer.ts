import { SchemaError } from './node.ts'

/** @throws {SchemaError} a reference to another document, or to an anchor */
export function pointerOf(ref: unknown, at: string): string {
  if (typeof ref === 'string' && /^#($|\/)/.test(ref)) return ref
  throw new SchemaError(`"$ref" must point into the schema itself (#/…), at ${at}`)
}

/** @throws {SchemaError} a pointer to nothing in the document */
export function resolvePointer(document: unknown, pointer: string): unknown {
  let value = document
  for (const part of pointer.split('/').slice(1)) {
    const key = unescapePointer(part)
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
      throw new SchemaError(`"$ref" ${JSON.stringify(pointer)} names nothing`)
    }
    value = (value as Record<string, unknown>)[key]
  }
  return value
}

export const escapePointer = (name: string): string =>
  name.replaceAll('~', '~0').replaceAll('/', '~1')

/** A part of a JSON pointer in a URI fragment. Source: RFC 6901, sections 4 and 6 */
function unescapePointer(part: string): string {
  try {
    return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
  } catch {
    throw new SchemaError(`"$ref" is not a URI fragment: ${JSON.stringify(part)}`)
  }
}
