import { SchemaError, type SchemaGrammar, type SchemaNode } from './node.ts'

/**
 * Refuses references that lead back to themselves without a value in between, and removes the parts of
 * a schema that no finite value satisfies, so that an answer never enters a part that cannot end.
 * @throws {SchemaError} where no finite value satisfies the root
 */
export function checkRecursion({ root, targets }: SchemaGrammar): SchemaGrammar {
  checkProgress(targets)
  const finite = new Set<string>()
  for (let before = -1; before < finite.size;) {
    before = finite.size
    for (const [name, node] of targets) if (isFinite(node, finite)) finite.add(name)
  }
  if (!isFinite(root, finite)) throw new SchemaError('no finite value satisfies it')
  const kept = [...targets].filter(([name]) => finite.has(name))
  return {
    root: prune(root, finite),
    targets: new Map(kept.map(([name, node]) => [name, prune(node, finite)])),
  }
}

function checkProgress(targets: SchemaGrammar['targets']): void {
  const state = new Map<string, 'open' | 'done'>()
  const visit = (node: SchemaNode): void => {
    if (node.kind === 'union') node.of.forEach(visit)
    if (node.kind === 'ref') enter(node.target)
  }
  const enter = (target: string): void => {
    if (state.get(target) === 'done') return
    if (state.get(target) === 'open') throw new SchemaError(`"$ref" ${target} refers to itself`)
    state.set(target, 'open')
    visit(targets.get(target)!)
    state.set(target, 'done')
  }
  for (const target of targets.keys()) enter(target)
}

function isFinite(node: SchemaNode, finite: ReadonlySet<string>): boolean {
  const ok = (child: SchemaNode): boolean => isFinite(child, finite)
  switch (node.kind) {
    case 'ref':
      return finite.has(node.target)
    case 'union':
      return node.of.some(ok)
    case 'object':
      return node.properties.every(({ node: value, required }) => !required || ok(value))
    case 'map':
      return node.minProperties === 0 || ok(node.values)
    case 'array':
      return (
        node.prefix.slice(0, node.minItems).every(ok) &&
        (node.minItems <= node.prefix.length || (node.items !== null && ok(node.items)))
      )
    default:
      return true
  }
}

/** Removes the members that no finite value satisfies from a node that some finite value does. */
function prune(node: SchemaNode, finite: ReadonlySet<string>): SchemaNode {
  const ok = (child: SchemaNode): boolean => isFinite(child, finite)
  const pruned = (child: SchemaNode): SchemaNode => prune(child, finite)
  switch (node.kind) {
    case 'union':
      return { kind: 'union', of: node.of.filter(ok).map(pruned) }
    case 'object':
      return {
        kind: 'object',
        properties: node.properties
          .filter((property) => ok(property.node))
          .map((property) => ({ ...property, node: pruned(property.node) })),
      }
    case 'map':
      return ok(node.values)
        ? { ...node, values: pruned(node.values) }
        : { kind: 'object', properties: [] }
    case 'array': {
      const numOk = node.prefix.findIndex((item) => !ok(item))
      const isCut = numOk >= 0
      const hasItems = !isCut && node.items !== null && ok(node.items)
      return {
        ...node,
        prefix: (isCut ? node.prefix.slice(0, numOk) : node.prefix).map(pruned),
        items: hasItems ? pruned(node.items) : null,
      }
    }
    default:
      return node
  }
}
