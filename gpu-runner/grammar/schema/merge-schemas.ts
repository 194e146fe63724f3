import { SchemaError } from './node.ts'

/** A schema's keywords without annotations. */
export type Keywords = Readonly<Record<string, unknown>>

/** Told of a keyword whose two values cannot be merged. */
type OnConflict = (keyword: string) => void

const LARGER = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties']
const SMALLER = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties']
const SCHEMAS = ['items', 'propertyNames']

/**
 * Merges two schemas of one `allOf` into one. An object closed by either schema stays closed, but may
 * hold the properties of both: helper libraries close each part of an intersection, and taken literally
 * no object would satisfy both parts.
 * @returns null where no value satisfies both
 */
export function mergeKeywords(a: Keywords, b: Keywords, onConflict: OnConflict): Keywords | null {
  const merged: Record<string, unknown> = { ...a }
  for (const [name, value] of Object.entries(b)) {
    if (name === 'const' || name === 'enum') continue
    const own = a[name]
    if (own === undefined) {
      merged[name] = value
    } else if (LARGER.includes(name) || SMALLER.includes(name)) {
      if (typeof own !== 'number' || typeof value !== 'number') {
        throw new SchemaError(`"${name}" must be a number`)
      }
      merged[name] = LARGER.includes(name) ? Math.max(own, value) : Math.min(own, value)
    } else if (name === 'type') {
      const types = commonTypes(asList(own), asList(value))
      if (types.length === 0) return null
      merged.type = types
    } else if (name === 'required') {
      merged.required = [...new Set([...asList(own), ...asList(value)])]
    } else if (name === 'properties') {
      merged.properties = mergeProperties(a, b)
    } else if (name === 'additionalProperties') {
      merged[name] = both(own, value)
    } else if (SCHEMAS.includes(name)) {
      merged[name] = both(own, value)
    } else if (JSON.stringify(own) !== JSON.stringify(value)) {
      onConflict(name)
    }
  }
  const values = mergeValues(a, b)
  if (values === null) return merged
  delete merged.const
  return values.length === 0 ? null : { ...merged, enum: values }
}

function mergeProperties(a: Keywords, b: Keywords): Record<string, unknown> {
  const [own, other] = [a, b].map(({ properties }) => {
    if (typeof properties === 'object' && properties !== null) return properties
    throw new SchemaError('"properties" must be an object')
  }) as [Keywords, Keywords]
  const names = new Set([...Object.keys(own), ...Object.keys(other)])
  const of = (keywords: Keywords, properties: Keywords, name: string): unknown => {
    if (Object.hasOwn(properties, name)) return properties[name]
    const others = keywords.additionalProperties
    return typeof others === 'object' ? others : true
  }
  return Object.fromEntries(
    [...names].map((name) => [name, both(of(a, own, name), of(b, other, name))]),
  )
}

/** @returns the values that every `const` and `enum` of the two names; null where there is none */
function mergeValues(a: Keywords, b: Keywords): readonly unknown[] | null {
  const lists = [a, b].flatMap((keywords) => [
    ...('const' in keywords ? [[keywords.const]] : []),
    ...('enum' in keywords ? [asList(keywords.enum)] : []),
  ])
  if (lists.length === 0) return null
  const texts = lists.slice(1).map((list) => new Set(list.map((value) => JSON.stringify(value))))
  return lists[0]!.filter((value) => texts.every((known) => known.has(JSON.stringify(value))))
}

/** One schema for the values that satisfy both. */
function both(a: unknown, b: unknown): unknown {
  if (a === false || b === false) return false
  if (a === true) return b
  if (b === true || JSON.stringify(a) === JSON.stringify(b)) return a
  return { allOf: [a, b] }
}

function commonTypes(a: readonly unknown[], b: readonly unknown[]): unknown[] {
  const isIn = (type: unknown, types: readonly unknown[]): boolean =>
    types.includes(type) || (type === 'integer' && types.includes('number'))
  return [...new Set([...a.filter((type) => isIn(type, b)), ...b.filter((type) => isIn(type, a))])]
}

const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [value])
