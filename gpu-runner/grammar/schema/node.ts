import type { Pattern } from './pattern.ts'

/** A schema as it was read: the values it admits. */
export type SchemaNode =
  | { readonly kind: 'any' | 'boolean' | 'null' }
  /** One of these JSON texts. */
  | { readonly kind: 'literals'; readonly texts: readonly string[] }
  /** Lengths in characters (code points); null is unbounded. */
  | { readonly kind: 'string'; readonly minLength: number; readonly maxLength: number | null }
  | { readonly kind: 'format'; readonly format: StringFormat }
  | { readonly kind: 'pattern'; readonly pattern: Pattern }
  | ({ readonly kind: 'integer' | 'number' } & NumberBounds)
  | { readonly kind: 'object'; readonly properties: readonly SchemaProperty[] }
  /** Any number of keys, each of which satisfies `keys` (null: any key), with values of one schema. */
  | {
      readonly kind: 'map'
      readonly keys: SchemaNode | null
      readonly values: SchemaNode
      readonly minProperties: 0 | 1
      readonly maxProperties: number | null
    }
  | {
      readonly kind: 'array'
      readonly prefix: readonly SchemaNode[]
      /** Items after the prefix; null where there may be none. */
      readonly items: SchemaNode | null
      readonly minItems: number
      readonly maxItems: number | null
    }
  /** Values of any of the members; without members, no value at all. */
  | { readonly kind: 'union'; readonly of: readonly SchemaNode[] }
  | { readonly kind: 'ref'; readonly target: string }

export type SchemaProperty = {
  readonly name: string
  readonly node: SchemaNode
  readonly required: boolean
}

/** Formats that a grammar enforces, in the order in which a refusal lists them. */
export const STRING_FORMATS = [
  'date-time',
  'date',
  'time',
  'duration',
  'uuid',
  'uuid1',
  'uuid3',
  'uuid4',
  'uuid5',
  'uuid6',
  'uuid7',
  'uuid8',
  'ipv4',
  'ipv6',
  'hostname',
  'email',
  'uri',
  'base64',
] as const
export type StringFormat = (typeof STRING_FORMATS)[number]

export type NumberBound = { readonly value: number; readonly exclusive: boolean }
export type NumberBounds = { readonly min: NumberBound | null; readonly max: NumberBound | null }

/** A schema's root, and the nodes that its references name. */
export type SchemaGrammar = {
  readonly root: SchemaNode
  readonly targets: ReadonlyMap<string, SchemaNode>
}

/** A grammar, and JSON pointers to the keywords of its schema that the grammar does not enforce. */
export type ReadSchema = SchemaGrammar & { readonly hints: readonly string[] }

/** A schema that cannot be enforced; the message names the keyword and its place. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError'
}
