/** What an answer's text must be: the part of a generation that a grammar enforces. */
import { z } from 'zod'

/** A schema of this many characters is far past any use; its grammar has a bound of its own. */
export const MAX_SCHEMA_CHARS = 64 << 10
/** Nesting of the schema's own JSON, two levels or so for each level of the answer. */
export const MAX_SCHEMA_NESTING = 64

/** A JSON Schema as it came; which of its features are enforced is the runner's to say. */
export const schemaObjectSchema = z
  .unknown()
  // First, and before any of it is written out again.
  .refine((schema) => hasFewValues(schema), `has more than ${MAX_SCHEMA_CHARS} characters`)
  .pipe(z.record(z.string(), z.unknown()))
  .refine((schema) => isShallow(schema), `is nested more than ${MAX_SCHEMA_NESTING} deep`)
  .refine(
    (schema) => !isShallow(schema) || JSON.stringify(schema).length <= MAX_SCHEMA_CHARS,
    `has more than ${MAX_SCHEMA_CHARS} characters`,
  )

/**
 * A format by schema. The schema is enforced whether `strict` is set or not; under `strict` what
 * cannot be is refused. Its name and description are for the caller's own use.
 */
export const jsonSchemaFields = {
  name: z.string().regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -'),
  description: z.string().optional(),
  schema: schemaObjectSchema.optional(),
  strict: z.boolean().nullish(),
}
const jsonSchemaSchema = z.strictObject(jsonSchemaFields)

/** What a runner is told of a format by schema. */
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

/** Of `POST /v1/generate`; absent is free text. */
export const runnerResponseFormatSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('json_object') }),
  z.object({
    type: z.literal('json_schema'),
    schema: schemaObjectSchema,
    /** Refuse what is not held, instead of naming it in `schema_hints`. */
    strict: z.boolean().optional(),
  }),
])
export type RunnerResponseFormat = z.infer<typeof runnerResponseFormatSchema>

/** A value takes one character at least. */
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

/** Whether a value's arrays and objects stand in each other at most {@link MAX_SCHEMA_NESTING} deep. */
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
