import type { SchemaGrammar, SchemaNode } from './node.ts'

/** Steps after which two schemas count as overlapping. */
const MAX_STEPS = 16

/**
 * Whether no value satisfies two of the schemas. Only plain differences count: types, listed values, or
 * a property that both require and whose schemas differ so. False means that a value might.
 */
export function areDisjoint(nodes: readonly SchemaNode[], targets: Targets): boolean {
  return nodes.every((node, i) =>
    nodes.slice(i + 1).every((other) => isDisjoint(node, other, targets, 0)),
  )
}

type Targets = SchemaGrammar['targets']

function isDisjoint(a: SchemaNode, b: SchemaNode, targets: Targets, step: number): boolean {
  if (step > MAX_STEPS) return false
  const again = (x: SchemaNode, y: SchemaNode): boolean => isDisjoint(x, y, targets, step + 1)
  if (a.kind === 'ref') return again(targets.get(a.target)!, b)
  if (b.kind === 'ref') return again(a, targets.get(b.target)!)
  if (a.kind === 'union') return a.of.every((member) => again(member, b))
  if (b.kind === 'union') return b.of.every((member) => again(a, member))
  if (a.kind === 'literals' && b.kind === 'literals') {
    const texts = new Set(a.texts)
    return !b.texts.some((text) => texts.has(text))
  }
  const types = new Set(typesOf(a))
  if (!typesOf(b).some((type) => types.has(type))) return true
  if (a.kind !== 'object' || b.kind !== 'object') return false
  return a.properties.some(({ name, node, required }) => {
    const other = b.properties.find((property) => property.name === name)
    return required && other !== undefined && other.required && again(node, other.node)
  })
}

function typesOf(node: SchemaNode): readonly string[] {
  switch (node.kind) {
    case 'any':
    case 'union':
    case 'ref':
      return ['object', 'array', 'string', 'number', 'boolean', 'null']
    case 'literals':
      return node.texts.map((text) => typeOfJson(JSON.parse(text)))
    case 'format':
    case 'pattern':
      return ['string']
    case 'integer':
      return ['number']
    case 'map':
      return ['object']
    default:
      return [node.kind]
  }
}

function typeOfJson(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}
