import type { Keywords } from './merge-schemas.ts'
import { SchemaError } from './node.ts'

/** They bar no value; nor do those that begin with `x-`. */
export const ANNOTATIONS = new Set([
  '$anchor',
  '$comment',
  '$id',
  '$schema',
  'contentEncoding',
  'contentMediaType',
  'contentSchema',
  'default',
  'deprecated',
  'description',
  'discriminator',
  'example',
  'examples',
  'externalDocs',
  'id',
  'readOnly',
  'title',
  'writeOnly',
  'xml',
  // Held in any case: an object that is read holds only the properties that it names.
  'unevaluatedItems',
  'unevaluatedProperties',
])
/** Their schemas are read only where a reference names one. */
export const CONTAINERS = new Set(['$defs', 'definitions'])
/** They hold other schemas of the same value; these and the keywords beside them are merged. */
export const COMPOSING = ['$ref', 'allOf', 'anyOf', 'oneOf']

const NUMBER_KEYWORDS = [
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'format',
]
export const KEYWORDS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  object: [
    'properties',
    'required',
    'additionalProperties',
    'propertyNames',
    'minProperties',
    'maxProperties',
  ],
  array: ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'format', 'pattern'],
  integer: NUMBER_KEYWORDS,
  number: NUMBER_KEYWORDS,
  boolean: [],
  null: [],
}
export const KNOWN_KEYWORDS = new Set([
  ...Object.values(KEYWORDS_OF_TYPE).flat(),
  ...COMPOSING,
  'type',
  'enum',
  'const',
])

/** @returns the types that a schema names or its keywords imply; null where any will do */
export function typesOf(keywords: Keywords, at: string): readonly string[] | null {
  const { type } = keywords
  if (type === undefined) {
    const names = Object.keys(keywords)
    if (names.length === 0) return null
    const implied = Object.keys(KEYWORDS_OF_TYPE).filter(
      (name) =>
        name !== 'integer' && names.every((keyword) => KEYWORDS_OF_TYPE[name]!.includes(keyword)),
    )
    // Numbers have a "format" too, but there it only names how a program stores them.
    if (implied.includes('string')) return ['string']
    if (implied.length === 1) return implied
    throw new SchemaError(`"${names.join('", "')}" need a "type", at ${at}`)
  }
  const types: readonly unknown[] = Array.isArray(type) ? type : [type]
  for (const name of types) {
    if (typeof name !== 'string' || !Object.hasOwn(KEYWORDS_OF_TYPE, name)) {
      throw new SchemaError(`"type" ${JSON.stringify(name)} is unknown, at ${at}`)
    }
  }
  if (types.length === 0) throw new SchemaError(`"type" is empty, at ${at}`)
  return [...new Set(types as string[])]
}
