/** The form that an answer's text must have. The runner enforces it by a grammar. */
import { z } from 'zod'

/** No useful schema is this long. The grammar made of a schema has a bound of its own. */
const MAX_SCHEMA_CHARS = 64 << 10
/** How deep the schema's own JSON may be nested. One level of the answer takes about two. */
export const MAX_SCHEMA_NESTING = 64

/** A JSON Schema. The runner says which of its keywords it enforces. */
export const schemaObjectSchema = z
  .unknown()
  // Checked first, so that no huge value is written out as JSON.
  .refine((schema) => hasFewValues(schema), `has more than ${MAX_SCHEMA_CHARS} characters`)
  .pipe(z.record(z.string(), z.unknown()))
  .refine((schema) => isShallow(schema), `is nested more than ${MAX_SCHEMA_NESTING} deep`)
  .refine(
    (schema) => !isShallow(schema) || JSON.stringify(schema).length <= MAX_SCHEMA_CHARS,
    `has more than ${MAX_SCHEMA_CHARS} characters`,
  )
  .meta({ type: 'object', description: 'A JSON Schema.' })

/**
 * A format given by a schema, which is enforced with or without `strict`. Under `strict` a schema
 * that cannot be enforced as a whole is refused. The name and the description do nothing.
 */
export const jsonSchemaFields = {
  name: z.string().regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -'),
  description: z.string().optional(),
  schema: schemaObjectSchema.optional(),
  strict: z.boolean().nullish(),
}
const jsonSchemaSchema = z.strictObject(jsonSchemaFields)

/** The runner's form of a format given by a schema. */
export function schemaFormat({
  schema,
  strict,
}: Pick<z.output<typeof jsonSchemaSchema>, 'schema' | 'strict'>): RunnerResponseFormat {
  if (schema === undefined) return { type: 'json_object' }
  return { type: 'json_schema', schema, ...(strict === true ? { strict } : {}) }
}

/** `response_format` of a chat. */
export const responseFormatSchema = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('text') }),
    z.strictObject({ type: z.literal('json_object') }),
    z.strictObject({
      type: z.literal('json_schema'),
      json_schema: jsonSchemaSchema,
    }),
  ])
  .transform((format): RunnerResponseFormat | undefined => {
    if (format.type === 'text') return undefined
    return schemaFormat(format.type === 'json_schema' ? format.json_schema : {})
  })

/** `response_format` of the runner's `POST /v1/generate`; absent means free text. */
export const runnerResponseFormatSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    schema: schemaObjectSchema,
    /** Refuse keywords that are not enforced, instead of naming them in `schema_hints`. */
    strict: z.boolean().optional(),
  }),
])
export type RunnerResponseFormat = z.infer<typeof runnerResponseFormatSchema>

/**
 * Whether a value may be short enough as JSON: each value inside it takes at least one character.
 */
function hasFewValues(value: unknown): boolean {
  const open: unknown[] = [value]
  for (let numValues = 0; open.length > 0; numValues++) {
    if (numValues + open.length > MAX_SCHEMA_CHARS) return false
    const item = open.pop()
    if (typeof item !== 'object' || item === null) continue
    for (const key in item) {
      open.push((item as Record<string, unknown>)[key])
      if (open.length > MAX_SCHEMA_CHARS) return false
    }
  }
  return true
}

/** Whether a value's arrays and objects are nested at most {@link MAX_SCHEMA_NESTING} deep. */
export function isShallow(value: unknown): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; depth <= MAX_SCHEMA_NESTING; depth++) {
    level = level.flatMap((item) =>
      typeof item === 'object' && item !== null ? (Object.values(item) as unknown[]) : [],
    )
    if (level.length === 0) return true
  }
  return false
}
