/** JSON Schemas of the document, made from zod schemas. */
import { z } from 'zod'
import type { Unsupported } from '../protocol/openai/unsupported.ts'
import type { Json } from './operation.ts'

type MutableJson = Record<string, unknown>

/** Whether a schema stands for what a client sends, or for what it gets. */
type Side = 'input' | 'output'

const OPTIONS = {
  // A transform reads what zod cannot describe; such a schema says by `meta` what it reads.
  unrepresentable: 'any',
  cycles: 'throw',
} as const

/** The JSON Schema of one value. */
export function toJsonSchema(schema: z.ZodType, io: Side): MutableJson {
  return without(z.toJSONSchema(schema, { ...OPTIONS, io }), '$schema')
}

/** Named schemas, which refer to each other by `#/components/schemas/NAME`. */
export function toComponents(
  named: Readonly<Record<string, z.ZodType>>,
  io: Side,
): Record<string, MutableJson> {
  const registry = z.registry<{ id: string }>()
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id })
  const { schemas } = z.toJSONSchema(registry, { ...OPTIONS, io, uri: refTo })
  return Object.fromEntries(
    Object.entries(schemas).map(([name, schema]) => [
      name,
      without(schema, '$schema', '$id', 'id'),
    ]),
  )
}

const without = (schema: object, ...names: readonly string[]): MutableJson =>
  Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)))

export const refTo = (name: string): string => `#/components/schemas/${name}`
export const ref = (name: string): Json => ({ $ref: refTo(name) })

const NULL = { type: 'null' }

/**
 * A body's schema with what its route accepts and does not read.
 * @param dropsNulls whether null is read as absent
 */
export function withUnread(
  body: MutableJson,
  { unread = {}, dropsNulls = false }: { unread?: Unsupported; dropsNulls?: boolean },
): MutableJson {
  const required = (body['required'] ?? []) as readonly string[]
  const own = body['properties'] as Readonly<Record<string, Json>>
  const extra = Object.entries(unread).map(([name, schema]): [string, Json] => [
    name,
    { ...toJsonSchema(schema, 'input'), description: 'Accepted, and changes nothing.' },
  ])
  const properties = [...Object.entries(own), ...extra].map(([name, schema]): [string, Json] => [
    name,
    dropsNulls && !required.includes(name) ? orNull(schema) : schema,
  ])
  return { ...body, properties: Object.fromEntries(properties) }
}

function orNull({ default: preset, description, ...schema }: Json): Json {
  if ('not' in schema) return NULL
  return {
    ...(Object.keys(schema).length === 0 ? {} : { anyOf: [schema, NULL] }),
    ...(preset === undefined ? {} : { default: preset }),
    ...(description === undefined ? {} : { description }),
  }
}
