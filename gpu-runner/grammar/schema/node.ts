/** What a schema admits, with every keyword either taken in or refused. */
export type SchemaNode =
  | { readonly kind: 'any' | 'boolean' | 'null' }
  /** One of these JSON texts. */
  | { readonly kind: 'literals'; readonly texts: readonly string[] }
  /** Lengths in characters (code points); null is unbounded. */
  | { readonly kind: 'string'; readonly minLength: number; readonly maxLength: number | null }
  | { readonly kind: 'format'; readonly format: StringFormat }
  | ({ readonly kind: 'integer' | 'number' } & NumberBounds)
  | { readonly kind: 'object'; readonly properties: readonly SchemaProperty[] }
  /** Any keys, all values alike. */
  | { readonly kind: 'map'; readonly values: SchemaNode }
  | {
      readonly kind: 'array'
      readonly prefix: readonly SchemaNode[]
      /** What follows the prefix; null where nothing may. */
      readonly items: SchemaNode | null
      readonly minItems: number
      readonly maxItems: number | null
    }
  | { readonly kind: 'union'; readonly of: readonly SchemaNode[] }
  | { readonly kind: 'ref'; readonly target: string }

export type SchemaProperty = {
  readonly name: string
  readonly node: SchemaNode
  readonly required: boolean
}

export type StringFormat = 'date-time' | 'date' | 'time' | 'uuid' | 'ipv4' | 'email'

export type NumberBound = { readonly value: number; readonly exclusive: boolean }
export type NumberBounds = { readonly min: NumberBound | null; readonly max: NumberBound | null }

/** A schema read: its root, and the nodes that references name. */
export type SchemaGrammar = {
  readonly root: SchemaNode
  readonly targets: ReadonlyMap<string, SchemaNode>
}

/** A schema that no grammar here enforces; the message names the keyword and its place. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError'
}
