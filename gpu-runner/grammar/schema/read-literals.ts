import { typesOf } from './keywords.ts'
import { SchemaError, type SchemaNode } from './node.ts'
import { isRecord, type SchemaPlace } from './schema-place.ts'

const MAX_ENUM_VALUES = 1000

/** The values of `enum` or `const` that are of the schema's type. */
export function readLiterals(place: SchemaPlace): SchemaNode {
  const { keywords, at } = place
  const list = 'enum' in keywords ? 'enum' : 'const'
  for (const name of Object.keys(keywords)) {
    if (['enum', 'const', 'type'].includes(name)) continue
    place.leaveOut(name, `"${name}" beside "${list}" is not supported`)
  }
  const { enum: listed } = keywords
  if ('enum' in keywords && !Array.isArray(listed)) {
    throw new SchemaError(`"enum" must be an array, at ${at}`)
  }
  const values: readonly unknown[] = Array.isArray(listed) ? listed : [keywords.const]
  if (values.length === 0) return { kind: 'union', of: [] }
  if (values.length > MAX_ENUM_VALUES) {
    throw new SchemaError(`"enum" has over ${MAX_ENUM_VALUES} values, at ${at}`)
  }
  const types = keywords.type === undefined ? null : typesOf(keywords, at)
  const fitting = values.filter((value) => types?.some((type) => isOfType(value, type)) ?? true)
  if (fitting.length === 0) throw new SchemaError(`no value of "enum" is of "type", at ${at}`)
  return { kind: 'literals', texts: [...new Set(fitting.map((value) => JSON.stringify(value)))] }
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case 'null':
      return value === null
    case 'array':
      return Array.isArray(value)
    case 'object':
      return isRecord(value)
    case 'integer':
      return Number.isInteger(value)
    default:
      return typeof value === type
  }
}
