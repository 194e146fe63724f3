import { checkRecursion } from './recursion.ts'
import { mergeKeywords, type Keywords } from './merge-schemas.ts'
import {
  SchemaError,
  STRING_FORMATS,
  type NumberBound,
  type NumberBounds,
  type ReadSchema,
  type SchemaNode,
  type SchemaProperty,
  type StringFormat,
} from './node.ts'
import { matchesPattern } from './match-pattern.ts'
import { readPattern, withLength, type Pattern } from './pattern.ts'
import { FORMATS, STRAY_TEXTS } from './string-formats.ts'
import { areToldApart } from './told-apart.ts'

/** Subschemas read; a grammar has a few rules for each. */
const MAX_NODES = 2000
const MAX_DEPTH = 32
const MAX_ENUM_VALUES = 1000
const MAX_ITEMS = 1000
const MAX_LENGTH = 10_000
/** Ways in which `allOf` beside `anyOf` may come out. */
const MAX_ALTERNATIVES = 64
/** Up to it every integer is exact, and every digit is written out. A bound beyond it adds nothing. */
const MAX_ABS_NUMBER = 1e15

/** They say nothing of a value; nor do those that begin with `x-`. */
const ANNOTATIONS = new Set([
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
  // Objects hold no properties but those that they name.
  'unevaluatedItems',
  'unevaluatedProperties',
])
/** Read only where a reference names one of them. */
const CONTAINERS = new Set(['$defs', 'definitions'])
/** Of other schemas; beside each other and beside the rest they are merged. */
const COMPOSING = ['$ref', 'allOf', 'anyOf', 'oneOf']

const NUMBER_KEYWORDS = [
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'format',
]
const KEYWORDS_OF_TYPE: Readonly<Record<string, readonly string[]>> = {
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
const KNOWN_KEYWORDS = new Set([
  ...Object.values(KEYWORDS_OF_TYPE).flat(),
  ...COMPOSING,
  'type',
  'enum',
  'const',
])
/** Names of what a text means to its reader, which say nothing of the text; numbers have others. */
const SPEAKING_FORMATS = new Set(['binary', 'password', 'path', 'file-path', 'directory-path'])

export type ReadOptions = {
  /** Tells this schema's reference targets from those of others in one grammar. */
  readonly targetPrefix?: string
  /** Refuse what no grammar holds, instead of leaving it out and saying so in `hints`. */
  readonly isStrict: boolean
}

/**
 * Reads a JSON Schema (2020-12, or older drafts' `definitions`) into what its answers may be. But
 * for what `hints` names, the answers are a part of what the schema admits, never more: an object
 * that names properties holds no others, a schema without `type` gets the one that its keywords
 * speak of, a tuple is whole, and a format's rarest forms are left out.
 * @throws {SchemaError} a schema that is none, or has no finite value; where it is strict, naming a
 *   keyword that is not held
 */
export function readSchema(schema: unknown, options: ReadOptions): ReadSchema {
  const reader = new SchemaReader(schema, options)
  const root = reader.read(schema, '#', 0)
  const targets = reader.readTargets()
  const grammar = checkRecursion({ root, targets })
  reader.checkAlternatives(targets)
  return { ...grammar, hints: reader.hints }
}

class SchemaReader {
  readonly #document: unknown
  readonly #targetPrefix: string
  readonly #isStrict: boolean
  /** By pointer; null until it is read. */
  readonly #targets = new Map<string, SchemaNode | null>()
  readonly #hints = new Set<string>()
  /** Members of each `oneOf`, and where it stands. */
  readonly #exclusive: { readonly of: readonly SchemaNode[]; readonly at: string }[] = []
  #numNodes = 0

  constructor(document: unknown, { targetPrefix = '', isStrict }: ReadOptions) {
    this.#document = document
    this.#targetPrefix = targetPrefix
    this.#isStrict = isStrict
  }

  get hints(): readonly string[] {
    return [...this.#hints]
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

  /** Whether what is read as `anyOf` admits the same: no value is of two members. */
  checkAlternatives(targets: ReadonlyMap<string, SchemaNode>): void {
    for (const { of, at } of this.#exclusive) {
      if (!areToldApart(of, targets)) {
        this.#leaveOut(
          'oneOf',
          at,
          '"oneOf" of schemas that one value may satisfy is not supported',
        )
      }
    }
  }

  read(schema: unknown, at: string, depth: number): SchemaNode {
    this.#countNode(at, depth)
    if (schema === true) return { kind: 'any' }
    if (schema === false) return { kind: 'union', of: [] }
    const { nullable, ...keywords } = this.#keywordsOf(schema, at)
    if (nullable === true) {
      return { kind: 'union', of: [this.#readKeywords(keywords, at, depth), { kind: 'null' }] }
    }
    return this.#readKeywords(keywords, at, depth)
  }

  #readKeywords(keywords: Keywords, at: string, depth: number): SchemaNode {
    const names = Object.keys(keywords)
    const composing = names.filter((name) => COMPOSING.includes(name))
    if (composing.length === 0) return this.#readPlain(keywords, at, depth)
    const [only] = names
    if (names.length === 1 && only === '$ref') return this.#refer(keywords.$ref, at)
    if (names.length === 1 && (only === 'anyOf' || only === 'oneOf')) {
      const of = listAt(keywords[only], only, at).map((member, i) =>
        this.read(member, `${at}/${only}/${i}`, depth + 1),
      )
      if (only === 'oneOf') this.#exclusive.push({ of, at })
      return { kind: 'union', of }
    }
    if (names.length === 1 && only === 'allOf') {
      const of = listAt(keywords.allOf, 'allOf', at)
      if (of.length === 1) return this.read(of[0], `${at}/allOf/0`, depth + 1)
    }
    const alternatives = this.#alternativesOf(keywords, at, depth, [])
    const of = alternatives.map((each) => this.#readPlain(each, at, depth))
    if (composing.includes('oneOf')) this.#exclusive.push({ of, at })
    return of.length === 1 ? of[0]! : { kind: 'union', of }
  }

  /** What a schema comes to with others merged into it: any one of these. */
  #alternativesOf(
    keywords: Keywords,
    at: string,
    depth: number,
    open: readonly string[],
  ): readonly Keywords[] {
    const inner = (schema: unknown, place: string, nowOpen = open): readonly Keywords[] => {
      this.#countNode(place, depth + nowOpen.length)
      if (schema === true) return [{}]
      if (schema === false) return []
      const { nullable, ...own } = this.#keywordsOf(schema, place)
      const all = this.#alternativesOf(own, place, depth + 1, nowOpen)
      return nullable === true ? [...all, { type: 'null' }] : all
    }
    const { $ref: ref, allOf, anyOf, oneOf, ...own } = keywords
    const parts: (readonly Keywords[])[] = [[own]]
    if (ref !== undefined) {
      const pointer = pointerOf(ref, at)
      if (open.includes(pointer)) throw new SchemaError(`"$ref" ${pointer} refers to itself`)
      parts.push(inner(this.#resolve(pointer), pointer, [...open, pointer]))
    }
    if (allOf !== undefined) {
      const all = listAt(allOf, 'allOf', at)
      parts.push(...all.map((member, i) => inner(member, `${at}/allOf/${i}`)))
    }
    for (const [name, value] of Object.entries({ anyOf, oneOf })) {
      if (value === undefined) continue
      const members = listAt(value, name, at)
      parts.push(members.flatMap((member, i) => inner(member, `${at}/${name}/${i}`)))
    }
    return parts.reduce((left, right) => {
      if (left.length * right.length > MAX_ALTERNATIVES) {
        throw new SchemaError(`merged schemas have over ${MAX_ALTERNATIVES} alternatives, at ${at}`)
      }
      const onConflict = (keyword: string): void => {
        this.#leaveOut(keyword, at, `"${keyword}" twice in merged schemas is not supported`)
      }
      return left.flatMap((a) =>
        right.map((b) => mergeKeywords(a, b, onConflict)).filter((each) => each !== null),
      )
    })
  }

  /** Without annotations and without what is left out. */
  #keywordsOf(schema: unknown, at: string): Keywords {
    if (!isRecord(schema)) throw new SchemaError(`a schema must be an object, at ${at}`)
    const kept: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(schema)) {
      if (ANNOTATIONS.has(name) || CONTAINERS.has(name) || name.startsWith('x-')) continue
      if (KNOWN_KEYWORDS.has(name) || (name === 'nullable' && typeof value === 'boolean')) {
        kept[name] = value
      } else if (name === 'not' && isRecord(value) && Object.keys(value).length === 0) {
        // The one negation that zod writes, of z.never().
        kept.enum = []
      } else this.#leaveOut(name, at)
    }
    return kept
  }

  /** @throws {SchemaError} where the schema is strict */
  #leaveOut(keyword: string, at: string, why = `"${keyword}" is not supported`): void {
    if (this.#isStrict) throw new SchemaError(`${why}, at ${at}`)
    this.#hints.add(`${at}/${escapePointer(keyword)}`)
  }

  #countNode(at: string, depth: number): void {
    this.#numNodes += 1
    if (this.#numNodes > MAX_NODES) throw new SchemaError(`over ${MAX_NODES} subschemas`)
    if (depth > MAX_DEPTH) throw new SchemaError(`nested over ${MAX_DEPTH} deep, at ${at}`)
  }

  #readPlain(keywords: Keywords, at: string, depth: number): SchemaNode {
    if ('enum' in keywords || 'const' in keywords) {
      for (const name of Object.keys(keywords)) {
        if (!['enum', 'const', 'type'].includes(name)) {
          const beside = 'enum' in keywords ? 'enum' : 'const'
          this.#leaveOut(name, at, `"${name}" beside "${beside}" is not supported`)
        }
      }
      return readLiterals(keywords, at)
    }
    const types = typesOf(keywords, at)
    if (types === null) return { kind: 'any' }
    for (const name of Object.keys(keywords)) {
      if (name === 'type' || types.some((type) => KEYWORDS_OF_TYPE[type]!.includes(name))) continue
      const type = JSON.stringify(keywords.type)
      this.#leaveOut(name, at, `"${name}" does not go with "type" ${type}`)
    }
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
        return this.#readString(keywords, at)
      case 'integer':
      case 'number':
        return this.#readNumber(type, keywords, at)
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
    const keys = this.#readKeys(keywords, at, depth)
    const known = Object.entries(properties).map(([name, schema]): SchemaProperty => ({
      name,
      node: this.read(schema, `${at}/properties/${escapePointer(name)}`, depth + 1),
      required: names.has(name),
    }))
    const readOthers = (): SchemaNode => this.read(others, `${at}/additionalProperties`, depth + 1)
    const listed =
      keys?.kind === 'literals' ? keys.texts.map((text) => String(JSON.parse(text))) : []
    const unknown = [...new Set([...names, ...(others === false ? [] : listed)])].filter(
      (name) => !Object.hasOwn(properties, name),
    )
    if (unknown.length > 0 && others === false) {
      throw new SchemaError(
        `"required" names ${JSON.stringify(unknown[0])}, not a property, at ${at}`,
      )
    }
    const besides = unknown.map((name): SchemaProperty => ({
      name,
      node: readOthers(),
      required: names.has(name),
    }))
    const all = [...known, ...besides]
    const [min, max] = [
      countAt(keywords, 'minProperties', Infinity, at) ?? 0,
      countAt(keywords, 'maxProperties', Infinity, at),
    ]
    if (all.length > 0 || others === false) {
      const inKeys = (name: string): boolean => keys?.kind !== 'literals' || listed.includes(name)
      if (keys !== null && keys.kind !== 'literals') this.#leaveOut('propertyNames', at)
      const kept = all.filter(({ name, required: isNeeded }) => isNeeded || inKeys(name))
      if (!kept.every(({ name }) => inKeys(name))) {
        throw new SchemaError(`"propertyNames" bars a required property, at ${at}`)
      }
      const numRequired = kept.filter((property) => property.required).length
      if (min > numRequired) this.#leaveOut('minProperties', at)
      if (max !== null && max < kept.length) this.#leaveOut('maxProperties', at)
      return { kind: 'object', properties: kept }
    }
    // A key written twice counts once.
    if (min > 1) this.#leaveOut('minProperties', at)
    if (min > (max ?? Infinity)) {
      throw new SchemaError(`"minProperties" is over "maxProperties", at ${at}`)
    }
    const isMaxHeld = max !== null && max <= MAX_ITEMS
    if (max !== null && !isMaxHeld) this.#leaveOut('maxProperties', at)
    return {
      kind: 'map',
      keys,
      values: readOthers(),
      minProperties: min === 0 ? 0 : 1,
      maxProperties: isMaxHeld ? max : null,
    }
  }

  /** @returns what a key may be; null where it may be any */
  #readKeys(keywords: Keywords, at: string, depth: number): SchemaNode | null {
    const { propertyNames: names = true } = keywords
    // Zod writes a type beside; keys have no other.
    const own = isRecord(names) && !('type' in names) ? { ...names, type: 'string' } : names
    const node = this.read(own, `${at}/propertyNames`, depth + 1)
    switch (node.kind) {
      case 'any':
        return null
      case 'string':
        return node.minLength === 0 && node.maxLength === null ? null : node
      case 'format':
      case 'pattern':
        return node
      case 'literals':
        if (node.texts.every((text) => text.startsWith('"'))) return node
        break
      default:
        break
    }
    this.#leaveOut('propertyNames', at)
    return null
  }

  #readArray(keywords: Keywords, at: string, depth: number): SchemaNode {
    // Older drafts write a tuple into "items".
    const isOldTuple = Array.isArray(keywords.items)
    const prefixItems = (isOldTuple ? keywords.items : keywords.prefixItems) ?? []
    const items = (isOldTuple ? keywords.additionalItems : keywords.items) ?? true
    if (!Array.isArray(prefixItems)) {
      throw new SchemaError(`"prefixItems" must be an array, at ${at}`)
    }
    const [prefixName, itemsName] = isOldTuple
      ? ['items', 'additionalItems']
      : ['prefixItems', 'items']
    const prefix = prefixItems.map((schema, i) =>
      this.read(schema, `${at}/${prefixName}/${i}`, depth + 1),
    )
    const maxItems = this.#countUpTo(MAX_ITEMS, 'maxItems', keywords, at)
    // A tuple is meant whole, though a schema that does not say so admits its beginnings.
    const minItems =
      this.#countUpTo(MAX_ITEMS, 'minItems', keywords, at) ??
      Math.min(prefix.length, maxItems ?? Infinity)
    const rest = items === false ? null : this.read(items, `${at}/${itemsName}`, depth + 1)
    if (minItems > (maxItems ?? Infinity) || (rest === null && minItems > prefix.length)) {
      throw new SchemaError(`"minItems" is over what the array may hold, at ${at}`)
    }
    const most = Math.min(maxItems ?? Infinity, rest === null ? prefix.length : Infinity)
    if ((keywords.uniqueItems ?? false) !== false && most > 1) this.#leaveOut('uniqueItems', at)
    return { kind: 'array', prefix, items: rest, minItems, maxItems }
  }

  #readString(keywords: Keywords, at: string): SchemaNode {
    const minLength = this.#countUpTo(MAX_LENGTH, 'minLength', keywords, at) ?? 0
    const maxLength = this.#countUpTo(MAX_LENGTH, 'maxLength', keywords, at)
    if (minLength > (maxLength ?? Infinity)) {
      throw new SchemaError(`"minLength" is over "maxLength", at ${at}`)
    }
    const { pattern, format } = keywords
    if (pattern !== undefined && typeof pattern !== 'string') {
      throw new SchemaError(`"pattern" must be a text, at ${at}`)
    }
    const isKnown = isStringFormat(format)
    const read = pattern === undefined ? null : readPattern(pattern)
    if (pattern !== undefined && read === null && !isKnown) this.#leaveOut('pattern', at)
    // Helpers write both. A pattern that admits the format's texts says no more than it does.
    if (read !== null && !(isKnown && admitsAll(read, format))) {
      if (isKnown && STRAY_TEXTS.some((text) => matchesPattern(read, text))) {
        this.#leaveOut('format', at, `"format" beside another "pattern" is not supported`)
      }
      const sized = withLength(read, minLength, maxLength)
      if (sized === null) {
        const name = maxLength === null ? 'minLength' : 'maxLength'
        this.#leaveOut(name, at, `"${name}" beside "pattern" is not supported`)
      }
      return { kind: 'pattern', pattern: sized ?? read }
    }
    if (isKnown) {
      const [shortest, longest] = FORMATS[format].lengths
      if (minLength > shortest || longest > (maxLength ?? Infinity)) {
        const name = minLength > shortest ? 'minLength' : 'maxLength'
        this.#leaveOut(name, at, `"${name}" beside "format" ${format} is not supported`)
      }
      return { kind: 'format', format }
    }
    if (format !== undefined && !SPEAKING_FORMATS.has(format as string)) {
      const known = STRING_FORMATS.join(', ')
      this.#leaveOut(
        'format',
        at,
        `"format" ${JSON.stringify(format)} is not supported (${known} are)`,
      )
    }
    return { kind: 'string', minLength, maxLength }
  }

  #readNumber(type: 'integer' | 'number', keywords: Keywords, at: string): SchemaNode {
    const { multipleOf: step } = keywords
    if (step !== undefined && (typeof step !== 'number' || step <= 0)) {
      throw new SchemaError(`"multipleOf" must be a number over 0, at ${at}`)
    }
    // Every integer is a multiple of 1, 0.5, 0.25 and so on.
    const isOfIntegers = step !== undefined && Number.isInteger(1 / step)
    if (step !== undefined && !(isOfIntegers && (type === 'integer' || step === 1))) {
      this.#leaveOut('multipleOf', at)
    }
    return { kind: step === 1 ? 'integer' : type, ...readBounds(keywords, at) }
  }

  /** @returns null too where it is over the bound and left out */
  #countUpTo(most: number, name: string, keywords: Keywords, at: string): number | null {
    const count = countAt(keywords, name, Infinity, at)
    if (count === null || count <= most) return count
    this.#leaveOut(name, at, `"${name}" over ${most} is not supported`)
    return null
  }

  #refer(ref: unknown, at: string): SchemaNode {
    const pointer = pointerOf(ref, at)
    this.#resolve(pointer)
    if (!this.#targets.has(pointer)) this.#targets.set(pointer, null)
    return { kind: 'ref', target: this.#targetPrefix + pointer }
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

/** As far as samples tell. */
const admitsAll = (pattern: Pattern, format: StringFormat): boolean =>
  FORMATS[format].samples.every((text) => matchesPattern(pattern, text))

const isStringFormat = (format: unknown): format is StringFormat =>
  (STRING_FORMATS as readonly unknown[]).includes(format)

function pointerOf(ref: unknown, at: string): string {
  if (typeof ref === 'string' && /^#($|\/)/.test(ref)) return ref
  throw new SchemaError(`"$ref" must point into the schema itself (#/…), at ${at}`)
}

function readLiterals(keywords: Keywords, at: string): SchemaNode {
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
    // "format" is of numbers too, where it only names how a program keeps them.
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

function readBounds(keywords: Keywords, at: string): NumberBounds {
  const read = (name: string): number | null => {
    const value = keywords[name]
    if (value === undefined) return null
    if (typeof value !== 'number') throw new SchemaError(`"${name}" must be a number, at ${at}`)
    const isWide = name.toLowerCase().includes('min')
      ? value <= -MAX_ABS_NUMBER
      : value >= MAX_ABS_NUMBER
    if (isWide) return null
    if (Math.abs(value) > MAX_ABS_NUMBER) {
      throw new SchemaError(`"${name}" must be a number within ±${MAX_ABS_NUMBER}, at ${at}`)
    }
    if (/e/.test(String(value))) {
      throw new SchemaError(`"${name}" is too small to be told from 0, at ${at}`)
    }
    return value
  }
  const bound = (inclusive: string, exclusive: string, sign: 1 | -1): NumberBound | null => {
    const [including, excluding] = [read(inclusive), read(exclusive)]
    if (excluding !== null && (including === null || (excluding - including) * sign >= 0)) {
      return { value: excluding, exclusive: true }
    }
    return including === null ? null : { value: including, exclusive: false }
  }
  return {
    min: bound('minimum', 'exclusiveMinimum', 1),
    max: bound('maximum', 'exclusiveMaximum', -1),
  }
}

function countAt(keywords: Keywords, name: string, max: number, at: string): number | null {
  const value = keywords[name]
  if (value === undefined) return null
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > max) {
    throw new SchemaError(
      max === Infinity
        ? `"${name}" must be an integer from 0, at ${at}`
        : `"${name}" must be an integer from 0 to ${max}, at ${at}`,
    )
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
