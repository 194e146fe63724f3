import { checkRecursion } from './recursion.ts'
import {
  SchemaError,
  type NumberBound,
  type NumberBounds,
  type SchemaGrammar,
  type SchemaNode,
  type SchemaProperty,
  type StringFormat,
} from './node.ts'

/** Subschemas read; a grammar has a few rules for each. */
const MAX_NODES = 2000
const MAX_DEPTH = 32
const MAX_ENUM_VALUES = 1000
const MAX_ITEMS = 1000
const MAX_LENGTH = 10_000
/** Up to it every integer is exact, and every digit is written out. */
export const MAX_ABS_NUMBER = 1e15

const ANNOTATIONS = new Set([
  '$comment',
  '$id',
  '$schema',
  'default',
  'deprecated',
  'description',
  'example',
  'examples',
  'readOnly',
  'title',
  'writeOnly',
])
/** Read only where a reference names one of them. */
const CONTAINERS = new Set(['$defs', 'definitions'])

const NUMBER_KEYWORDS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']
const KEYWORDS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'format'],
  integer: NUMBER_KEYWORDS,
  number: NUMBER_KEYWORDS,
  boolean: [],
  null: [],
}
const FORMATS: readonly string[] = ['date-time', 'date', 'time', 'uuid', 'ipv4', 'email']

type Keywords = Readonly<Record<string, unknown>>

/**
 * Reads a JSON Schema (2020-12, or older drafts' `definitions`) into what its answers may be. The
 * answers are a part of what the schema admits, never more: an object that names properties holds
 * no others, a schema without `type` gets the one that its keywords speak of, and a format's rarest
 * forms are left out.
 * @param targetPrefix tells this schema's reference targets from those of others in one grammar
 * @throws {SchemaError} naming a keyword that is not enforced, or a schema without a finite value
 */
export function readSchema(schema: unknown, targetPrefix = ''): SchemaGrammar {
  const reader = new SchemaReader(schema, targetPrefix)
  const root = reader.read(schema, '#', 0)
  return checkRecursion({ root, targets: reader.readTargets() })
}

class SchemaReader {
  readonly #document: unknown
  readonly #targetPrefix: string
  /** By pointer; null until it is read. */
  readonly #targets = new Map<string, SchemaNode | null>()
  #numNodes = 0

  constructor(document: unknown, targetPrefix: string) {
    this.#document = document
    this.#targetPrefix = targetPrefix
  }

  /** Reads what references name, and what those refer to in turn. */
  readTargets(): ReadonlyMap<string, SchemaNode> {
    const done = new Map<string, SchemaNode>()
    // The map grows under the loop, which goes on to the new entries.
    for (const pointer of this.#targets.keys()) {
      done.set(this.#targetPrefix + pointer, this.read(this.#resolve(pointer), pointer, 0))
    }
    return done
  }

  read(schema: unknown, at: string, depth: number): SchemaNode {
    this.#numNodes += 1
    if (this.#numNodes > MAX_NODES) throw new SchemaError(`over ${MAX_NODES} subschemas`)
    if (depth > MAX_DEPTH) throw new SchemaError(`nested over ${MAX_DEPTH} deep, at ${at}`)
    if (schema === true) return { kind: 'any' }
    if (schema === false) throw new SchemaError(`false admits nothing, at ${at}`)
    if (!isRecord(schema)) throw new SchemaError(`a schema must be an object, at ${at}`)
    const keywords = Object.fromEntries(
      Object.entries(schema).filter(([key]) => !ANNOTATIONS.has(key) && !CONTAINERS.has(key)),
    )
    const alone = (key: string, ...beside: string[]): void => {
      const other = Object.keys(keywords).find((name) => name !== key && !beside.includes(name))
      if (other !== undefined) {
        throw new SchemaError(`"${other}" beside "${key}" is not supported, at ${at}`)
      }
    }
    if ('$ref' in keywords) {
      alone('$ref')
      return this.#refer(keywords.$ref, at)
    }
    if ('allOf' in keywords) {
      alone('allOf')
      const of = listAt(keywords.allOf, 'allOf', at)
      if (of.length > 1) {
        throw new SchemaError(`"allOf" of several schemas is not supported, at ${at}`)
      }
      return this.read(of[0], `${at}/allOf/0`, depth + 1)
    }
    if ('anyOf' in keywords) {
      alone('anyOf')
      const of = listAt(keywords.anyOf, 'anyOf', at)
      return {
        kind: 'union',
        of: of.map((member, i) => this.read(member, `${at}/anyOf/${i}`, depth + 1)),
      }
    }
    if ('enum' in keywords || 'const' in keywords) {
      alone('enum' in keywords ? 'enum' : 'const', 'type')
      return readLiterals(keywords, at)
    }
    const types = typesOf(keywords, at)
    if (types === null) return { kind: 'any' }
    checkKeywords(keywords, types, at)
    const of = types.map((type) => this.#readType(type, keywords, at, depth))
    return of.length === 1 ? of[0]! : { kind: 'union', of }
  }

  #readType(type: string, keywords: Keywords, at: string, depth: number): SchemaNode {
    switch (type) {
      case 'object':
        return this.#readObject(keywords, at, depth)
      case 'array':
        return this.#readArray(keywords, at, depth)
      case 'string':
        return readString(keywords, at)
      case 'integer':
      case 'number':
        return { kind: type, ...readBounds(keywords, at) }
      case 'boolean':
      case 'null':
        return { kind: type }
      default:
        throw new SchemaError(`"type" ${JSON.stringify(type)} is unknown, at ${at}`)
    }
  }

  #readObject(keywords: Keywords, at: string, depth: number): SchemaNode {
    const { properties = {}, required = [], additionalProperties: others = true } = keywords
    if (!isRecord(properties)) throw new SchemaError(`"properties" must be an object, at ${at}`)
    if (!Array.isArray(required) || !required.every((name) => typeof name === 'string')) {
      throw new SchemaError(`"required" must be an array of names, at ${at}`)
    }
    const names = new Set<string>(required)
    const known = Object.entries(properties).map(([name, schema]): SchemaProperty => ({
      name,
      node: this.read(schema, `${at}/properties/${escapePointer(name)}`, depth + 1),
      required: names.has(name),
    }))
    const unknown = [...names].filter((name) => !Object.hasOwn(properties, name))
    if (unknown.length > 0 && others === false) {
      throw new SchemaError(
        `"required" names ${JSON.stringify(unknown[0])}, not a property, at ${at}`,
      )
    }
    if (isRecord(others) && (known.length > 0 || unknown.length > 0)) {
      // A key written twice could hold a value of the wrong kind.
      throw new SchemaError(
        `"additionalProperties" as a schema beside "properties" or "required" is not supported, at ${at}`,
      )
    }
    const asAny = unknown.map((name): SchemaProperty => ({
      name,
      node: { kind: 'any' },
      required: true,
    }))
    const all = [...known, ...asAny]
    if (all.length > 0 || others === false) return { kind: 'object', properties: all }
    return { kind: 'map', values: this.read(others, `${at}/additionalProperties`, depth + 1) }
  }

  #readArray(keywords: Keywords, at: string, depth: number): SchemaNode {
    const { items = true, prefixItems = [], uniqueItems = false } = keywords
    if (uniqueItems !== false) throw new SchemaError(`"uniqueItems" is not supported, at ${at}`)
    if (Array.isArray(items)) {
      throw new SchemaError(`"items" as an array is not supported, use "prefixItems", at ${at}`)
    }
    if (!Array.isArray(prefixItems)) {
      throw new SchemaError(`"prefixItems" must be an array, at ${at}`)
    }
    const prefix = prefixItems.map((schema, i) =>
      this.read(schema, `${at}/prefixItems/${i}`, depth + 1),
    )
    const minItems = countAt(keywords, 'minItems', MAX_ITEMS, at) ?? 0
    const maxItems = countAt(keywords, 'maxItems', MAX_ITEMS, at)
    const rest = items === false ? null : this.read(items, `${at}/items`, depth + 1)
    if (minItems > (maxItems ?? Infinity) || (rest === null && minItems > prefix.length)) {
      throw new SchemaError(`"minItems" is over what the array may hold, at ${at}`)
    }
    return { kind: 'array', prefix, items: rest, minItems, maxItems }
  }

  #refer(ref: unknown, at: string): SchemaNode {
    if (typeof ref !== 'string' || !/^#($|\/)/.test(ref)) {
      throw new SchemaError(`"$ref" must point into the schema itself (#/…), at ${at}`)
    }
    this.#resolve(ref)
    if (!this.#targets.has(ref)) this.#targets.set(ref, null)
    return { kind: 'ref', target: this.#targetPrefix + ref }
  }

  #resolve(pointer: string): unknown {
    let value: unknown = this.#document
    for (const part of pointer.split('/').slice(1)) {
      const key = unescapePointer(part)
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
        throw new SchemaError(`"$ref" ${JSON.stringify(pointer)} names nothing`)
      }
      value = (value as Record<string, unknown>)[key]
    }
    return value
  }
}

function readLiterals(keywords: Keywords, at: string): SchemaNode {
  const values = 'enum' in keywords ? listAt(keywords.enum, 'enum', at) : [keywords.const]
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

/** @returns null where any type will do */
function typesOf(keywords: Keywords, at: string): readonly string[] | null {
  const { type } = keywords
  if (type === undefined) {
    const names = Object.keys(keywords)
    if (names.length === 0) return null
    const implied = Object.keys(KEYWORDS_OF_TYPE).filter(
      (name) =>
        name !== 'integer' && names.every((keyword) => KEYWORDS_OF_TYPE[name]!.includes(keyword)),
    )
    if (implied.length === 1) return implied
    const all = Object.values(KEYWORDS_OF_TYPE).flat()
    const unknown = names.find((name) => !all.includes(name))
    throw new SchemaError(
      unknown === undefined
        ? `"${names.join('", "')}" need a "type", at ${at}`
        : `"${unknown}" is not supported, at ${at}`,
    )
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

function checkKeywords(keywords: Keywords, types: readonly string[], at: string): void {
  const all = Object.values(KEYWORDS_OF_TYPE).flat()
  for (const name of Object.keys(keywords)) {
    if (name === 'type' || types.some((type) => KEYWORDS_OF_TYPE[type]!.includes(name))) continue
    throw new SchemaError(
      all.includes(name)
        ? `"${name}" does not go with "type" ${JSON.stringify(keywords.type)}, at ${at}`
        : `"${name}" is not supported, at ${at}`,
    )
  }
}

function readString(keywords: Keywords, at: string): SchemaNode {
  const minLength = countAt(keywords, 'minLength', MAX_LENGTH, at) ?? 0
  const maxLength = countAt(keywords, 'maxLength', MAX_LENGTH, at)
  if (minLength > (maxLength ?? Infinity)) {
    throw new SchemaError(`"minLength" is over "maxLength", at ${at}`)
  }
  const { format } = keywords
  if (format === undefined) return { kind: 'string', minLength, maxLength }
  if (typeof format !== 'string' || !FORMATS.includes(format)) {
    const known = FORMATS.join(', ')
    throw new SchemaError(
      `"format" ${JSON.stringify(format)} is not supported (${known} are), at ${at}`,
    )
  }
  if (minLength > 0 || maxLength !== null) {
    throw new SchemaError(`"format" beside a length is not supported, at ${at}`)
  }
  return { kind: 'format', format: format as StringFormat }
}

function readBounds(keywords: Keywords, at: string): NumberBounds {
  const bound = (inclusive: string, exclusive: string): NumberBound | null => {
    const [including, excluding] = [inclusive, exclusive].map((name) => {
      const value = keywords[name]
      if (value === undefined) return null
      if (typeof value !== 'number' || Math.abs(value) > MAX_ABS_NUMBER) {
        throw new SchemaError(`"${name}" must be a number within ±${MAX_ABS_NUMBER}, at ${at}`)
      }
      if (/e/.test(String(value))) {
        throw new SchemaError(`"${name}" is too small to be told from 0, at ${at}`)
      }
      return value
    })
    if (including != null && excluding != null) {
      throw new SchemaError(`"${inclusive}" beside "${exclusive}" is not supported, at ${at}`)
    }
    if (including != null) return { value: including, exclusive: false }
    return excluding == null ? null : { value: excluding, exclusive: true }
  }
  return { min: bound('minimum', 'exclusiveMinimum'), max: bound('maximum', 'exclusiveMaximum') }
}

function countAt(keywords: Keywords, name: string, max: number, at: string): number | null {
  const value = keywords[name]
  if (value === undefined) return null
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > max) {
    throw new SchemaError(`"${name}" must be an integer from 0 to ${max}, at ${at}`)
  }
  return value as number
}

function listAt(value: unknown, name: string, at: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value as unknown[]
  throw new SchemaError(`"${name}" must be an array that is not empty, at ${at}`)
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

/** A part of a JSON pointer in a URI fragment. Source: RFC 6901, sections 4 and 6 */
function unescapePointer(part: string): string {
  try {
    return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
  } catch {
    throw new SchemaError(`"$ref" is not a URI fragment: ${JSON.stringify(part)}`)
  }
}
