import { SchemaError, type SchemaNode } from './node.ts'
import type { Keywords } from './merge-schemas.ts'

/** A schema without references and compositions, where it stands, and what its reader offers. */
export type SchemaPlace = {
  readonly keywords: Keywords
  /** A JSON pointer, as errors name it. */
  readonly at: string
  /** Reads a schema within this one. @param path from here to it */
  readonly read: (schema: unknown, path: string) => SchemaNode
  /**
   * Says that a keyword is not held. Its schema is then read as if it were not there.
   * @throws {SchemaError} where the schema is strict
   */
  readonly leaveOut: (keyword: string, why?: string) => void
}

/** @throws {SchemaError} a count that is not an integer from 0 */
export function countAt({ keywords, at }: SchemaPlace, name: string): number | null {
  const value = keywords[name]
  if (value === undefined) return null
  if (Number.isInteger(value) && (value as number) >= 0) return value as number
  throw new SchemaError(`"${name}" must be an integer from 0, at ${at}`)
}

/** As {@link countAt}; a count over `most` is left out, and the answer is null as if there were none. */
export function countUpTo(place: SchemaPlace, name: string, most: number): number | null {
  const count = countAt(place, name)
  if (count === null || count <= most) return count
  place.leaveOut(name, `"${name}" over ${most} is not supported`)
  return null
}

export function listAt(value: unknown, name: string, at: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value as unknown[]
  throw new SchemaError(`"${name}" must be an array that is not empty, at ${at}`)
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
