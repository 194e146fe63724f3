import { literal } from './ebnf-literal.ts'
import { numberRange } from './number-range.ts'
import { SchemaError, type SchemaGrammar, type SchemaNode } from './node.ts'
import { writePattern } from './pattern.ts'
import { FORMATS } from './string-formats.ts'

/** Rules that every schema may use. Strings are valid UTF-8 and name no half of a surrogate pair. */
const COMMON: Readonly<Record<string, string>> = {
  string: '"\\"" tail',
  tail: '("\\"" | [^"\\\\\\0-\\x1f] tail | "\\\\" escape tail) (= [,}\\]:])',
  escape: '["\\\\/bfnrt] | "u" ([0-9A-Ca-cEFef] [0-9a-fA-F] | [Dd] [0-7]) [0-9a-fA-F] [0-9a-fA-F]',
  boolean: '"true" | "false"',
  null: '"null"',
  any: 'string | number | boolean | null | any_array | any_object',
  any_array: '"[" (any (", " any)*)? "]"',
  any_object: '"{" (string ": " any (", " string ": " any)*)? "}"',
}

/**
 * Writes a schema's values in XGrammar's EBNF: JSON on one line with a space after each comma and
 * colon, properties in the schema's order. Spaces are fixed, since a model could go on with free ones.
 * @param writeRoot writes the rule `root` of the whole text. It is given the name of the schema's rule,
 *   and a function that writes a rule for another node and returns its name
 * @throws {SchemaError} a range that holds no number
 */
export function writeEbnf(
  grammar: SchemaGrammar,
  writeRoot: (rule: string, write: (node: SchemaNode) => string) => string = (rule) =>
    `root ::= ${rule}`,
): string {
  const writer = new EbnfWriter()
  for (const target of grammar.targets.keys()) writer.declare(target)
  const root = writer.write(grammar.root)
  for (const [target, node] of grammar.targets) writer.define(target, node)
  const whole = writeRoot(root, (node) => writer.write(node))
  return [whole, ...writer.rules()].join('\n')
}

class EbnfWriter {
  /** Bodies of rules by name, in the order in which the names were given. */
  readonly #bodies = new Map<string, string>()
  /** Names of rules by body, so that equal parts are compiled once. */
  readonly #names = new Map<string, string>()
  readonly #targets = new Map<string, string>()

  declare(target: string): void {
    this.#targets.set(target, `ref_${this.#targets.size}`)
  }

  define(target: string, node: SchemaNode): void {
    this.#bodies.set(this.#targets.get(target)!, this.write(node))
  }

  rules(): string[] {
    return Array.from(this.#bodies, ([name, body]) => `${name} ::= ${body}`)
  }

  /** @returns the name of a rule for the node */
  write(node: SchemaNode): string {
    switch (node.kind) {
      case 'any':
      case 'boolean':
      case 'null':
        return this.#common(node.kind)
      case 'literals':
        return this.#rule(node.texts.map(literal).join(' | '))
      case 'string':
        return this.#string(node)
      case 'format':
        return this.#rule(`"\\"" (${FORMATS[node.format].ebnf}) "\\""`)
      case 'pattern':
        return this.#rule(`"\\"" (${writePattern(node.pattern)}) "\\""`)
      case 'integer':
      case 'number': {
        const range = numberRange(node.kind, node)
        if (range === null) throw new SchemaError('"minimum" and "maximum" leave no number')
        return this.#rule(range)
      }
      case 'object':
        return this.#object(node)
      case 'map':
        return this.#map(node)
      case 'array':
        return this.#array(node)
      case 'union':
        return this.#rule(node.of.map((member) => this.write(member)).join(' | '))
      case 'ref':
        return this.#targets.get(node.target)!
    }
  }

  #rule(body: string): string {
    const known = this.#names.get(body)
    if (known !== undefined) return known
    const name = `rule_${this.#names.size}`
    this.#names.set(body, name)
    this.#bodies.set(name, body)
    return name
  }

  /** Defines a common rule, and the rules it uses. */
  #common(name: string): string {
    if (this.#bodies.has(name)) return name
    const body = COMMON[name]!
    this.#bodies.set(name, body)
    for (const [word] of body
      .replaceAll(/"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]/g, '')
      .matchAll(/[a-z_]+/g)) {
      if (word === 'number') this.#number()
      else this.#common(word)
    }
    return name
  }

  #number(): void {
    this.#bodies.set('number', numberRange('number', { min: null, max: null })!)
  }

  #string({ minLength, maxLength }: Extract<SchemaNode, { kind: 'string' }>): string {
    if (minLength === 0 && maxLength === null) return this.#common('string')
    // Unescaped characters only: an escape could be half a character.
    const chars = `[^"\\\\\\0-\\x1f]{${minLength},${maxLength ?? ''}}`
    return this.#rule(`"\\"" ${chars} "\\""`)
  }

  #object({ properties }: Extract<SchemaNode, { kind: 'object' }>): string {
    // From the last property to the first: `following` is written after another property, `first`
    // where none has been written yet.
    let following = '""'
    let first = '""'
    for (const { name, node, required } of properties.toReversed()) {
      const pair = `${literal(`${JSON.stringify(name)}: `)} ${this.write(node)}`
      const rest = following === '""' ? '' : ` ${following}`
      first = this.#rule(required ? pair + rest : `${pair}${rest} | ${first}`)
      const more = `", " ${pair}${rest}`
      following = this.#rule(required ? more : `${more} | ${following}`)
    }
    return this.#rule(`"{" ${first} "}"`)
  }

  #map({
    keys,
    values,
    minProperties,
    maxProperties,
  }: Extract<SchemaNode, { kind: 'map' }>): string {
    const key = keys === null ? this.#common('string') : this.write(keys)
    if (maxProperties === 0) return this.#rule('"{}"')
    const pair = `${key} ": " ${this.write(values)}`
    const more = maxProperties === null ? '*' : `{0,${maxProperties - 1}}`
    return this.#rule(`"{" (${pair} (", " ${pair})${more})${minProperties === 0 ? '?' : ''} "}"`)
  }

  #array({ prefix, items, minItems, maxItems }: Extract<SchemaNode, { kind: 'array' }>): string {
    const most = Math.min(maxItems ?? Infinity, items === null ? prefix.length : Infinity)
    const head = prefix.slice(0, most).map((node) => this.write(node))
    let following = this.#moreItems(head.length, items, minItems, most)
    for (let i = head.length - 1; i >= 0; i--) {
      const comma = i === 0 ? '' : '", " '
      const item = [`${comma}${head[i]!}`, ...(following === '""' ? [] : [following])].join(' ')
      following = this.#rule(i < minItems ? item : `${item} | ""`)
    }
    return this.#rule(`"[" ${following} "]"`)
  }

  /** A rule for the items after the first `numBefore`. */
  #moreItems(numBefore: number, items: SchemaNode | null, least: number, most: number): string {
    if (items === null || most <= numBefore) return '""'
    const item = this.write(items)
    const [min, max] = [Math.max(0, least - numBefore), most - numBefore]
    const times = (from: number, to: number): string =>
      `{${from},${to === Infinity ? '' : String(to)}}`
    if (numBefore > 0) return this.#rule(`(", " ${item})${times(min, max)}`)
    const all = `${item} (", " ${item})${times(Math.max(0, min - 1), max - 1)}`
    return this.#rule(min === 0 ? `${all} | ""` : all)
  }
}
