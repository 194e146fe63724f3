import { escapePointer, pointerOf, resolvePointer } from './json-pointer.ts'
import {
  ANNOTATIONS,
  COMPOSING,
  CONTAINERS,
  KEYWORDS_OF_TYPE,
  KNOWN_KEYWORDS,
  typesOf,
} from './keywords.ts'
import { mergeKeywords, type Keywords } from './merge-schemas.ts'
import { SchemaError, type ReadSchema, type SchemaNode } from './node.ts'
import { readArray } from './read-array.ts'
import { readLiterals } from './read-literals.ts'
import { readNumber } from './read-number.ts'
import { readObject } from './read-object.ts'
import { readString } from './read-string.ts'
import { checkRecursion } from './recursion.ts'
import { isRecord, listAt, type SchemaPlace } from './schema-place.ts'
import { areDisjoint } from './disjoint.ts'

/** A grammar has a few rules for each subschema. */
const MAX_NODES = 2000
const MAX_DEPTH = 32
/** Alternatives that merging `allOf` and `anyOf` may give. */
const MAX_ALTERNATIVES = 64

export type ReadOptions = {
  /** Tells this schema's reference targets from those of others in one grammar. */
  readonly targetPrefix?: string
  /** Refuse a keyword that no grammar enforces, instead of leaving it out and naming it in `hints`. */
  readonly isStrict: boolean
}

/**
 * Reads a JSON Schema (2020-12, or older drafts' `definitions`) into the answers that a grammar will
 * allow. Every answer satisfies the schema, apart from the keywords that `hints` names. Some values
 * that satisfy it cannot be answers: an object that names properties holds no others, a schema without
 * `type` gets the one its keywords imply, a tuple is whole, and a format's rarest forms are left out.
 * @throws {SchemaError} a schema that is malformed or has no finite value; a strict one with a keyword
 *   that no grammar enforces
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
  readonly #oneOfs: { readonly members: readonly SchemaNode[]; readonly at: string }[] = []
  #numNodes = 0

  constructor(document: unknown, { targetPrefix = '', isStrict }: ReadOptions) {
    this.#document = document
    this.#targetPrefix = targetPrefix
    this.#isStrict = isStrict
  }

  get hints(): readonly string[] {
    return [...this.#hints]
  }

  /** Reads the schemas that references name, and those that they refer to in turn. */
  readTargets(): ReadonlyMap<string, SchemaNode> {
    const done = new Map<string, SchemaNode>()
    // Reading a target may add others to the map; the loop reaches them too.
    for (const pointer of this.#targets.keys()) {
      done.set(
        this.#targetPrefix + pointer,
        this.read(resolvePointer(this.#document, pointer), pointer, 0),
      )
    }
    return done
  }

  /**
   * Leaves out each `oneOf` of which a value may satisfy two members: it is read as `anyOf`, which
   * admits such a value.
   */
  checkAlternatives(targets: ReadonlyMap<string, SchemaNode>): void {
    for (const { members, at } of this.#oneOfs) {
      if (!areDisjoint(members, targets)) {
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
      if (only === 'oneOf') this.#oneOfs.push({ members: of, at })
      return { kind: 'union', of }
    }
    if (names.length === 1 && only === 'allOf') {
      const of = listAt(keywords.allOf, 'allOf', at)
      if (of.length === 1) return this.read(of[0], `${at}/allOf/0`, depth + 1)
    }
    const alternatives = this.#alternativesOf(keywords, at, depth, [])
    const of = alternatives.map((each) => this.#readPlain(each, at, depth))
    if (composing.includes('oneOf')) this.#oneOfs.push({ members: of, at })
    return of.length === 1 ? of[0]! : { kind: 'union', of }
  }

  /**
   * Merges a schema with those that it composes.
   * @param open references being followed, which none of these schemas may follow again
   * @returns schemas without others inside them; a value of any one of them is a value of the whole
   */
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
      parts.push(inner(resolvePointer(this.#document, pointer), pointer, [...open, pointer]))
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

  /** A schema's keywords but for annotations and those that are left out. */
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

  /** Reads keywords that hold no other schemas of the same value. */
  #readPlain(keywords: Keywords, at: string, depth: number): SchemaNode {
    const place: SchemaPlace = {
      keywords,
      at,
      read: (schema, path) => this.read(schema, `${at}/${path}`, depth + 1),
      leaveOut: (keyword, why) => {
        this.#leaveOut(keyword, at, why)
      },
    }
    if ('enum' in keywords || 'const' in keywords) return readLiterals(place)
    const types = typesOf(keywords, at)
    if (types === null) return { kind: 'any' }
    for (const name of Object.keys(keywords)) {
      if (name === 'type' || types.some((type) => KEYWORDS_OF_TYPE[type]!.includes(name))) continue
      const type = JSON.stringify(keywords.type)
      this.#leaveOut(name, at, `"${name}" does not go with "type" ${type}`)
    }
    const of = types.map((type) => readType(type, place))
    return of.length === 1 ? of[0]! : { kind: 'union', of }
  }

  #refer(ref: unknown, at: string): SchemaNode {
    const pointer = pointerOf(ref, at)
    resolvePointer(this.#document, pointer)
    if (!this.#targets.has(pointer)) this.#targets.set(pointer, null)
    return { kind: 'ref', target: this.#targetPrefix + pointer }
  }
}

function readType(type: string, place: SchemaPlace): SchemaNode {
  switch (type) {
    case 'object':
      return readObject(place)
    case 'array':
      return readArray(place)
    case 'string':
      return readString(place)
    case 'integer':
    case 'number':
      return readNumber(type, place)
    case 'boolean':
    case 'null':
      return { kind: type }
    default:
      throw new SchemaError(`"type" ${JSON.stringify(type)} is unknown, at ${place.at}`)
  }
}
