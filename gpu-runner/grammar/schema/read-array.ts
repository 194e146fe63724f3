import { SchemaError, type SchemaNode } from './node.ts'
import { countUpTo, type SchemaPlace } from './schema-place.ts'

const MAX_ITEMS = 1000

export function readArray(place: SchemaPlace): SchemaNode {
  const { keywords, at } = place
  // Older drafts write a tuple into "items".
  const isOldTuple = Array.isArray(keywords.items)
  const prefixItems = (isOldTuple ? keywords.items : keywords.prefixItems) ?? []
  const items = (isOldTuple ? keywords.additionalItems : keywords.items) ?? true
  if (!Array.isArray(prefixItems)) {
    throw new SchemaError(`"prefixItems" must be an array, at ${at}`)
  }
  const [prefixName, itemsName] = isOldTuple
    ? (['items', 'additionalItems'] as const)
    : (['prefixItems', 'items'] as const)
  const prefix = prefixItems.map((schema, i) => place.read(schema, `${prefixName}/${i}`))
  const maxItems = countUpTo(place, 'maxItems', MAX_ITEMS)
  // A schema without `minItems` also admits a tuple's beginnings; its author means the whole.
  const minItems =
    countUpTo(place, 'minItems', MAX_ITEMS) ?? Math.min(prefix.length, maxItems ?? Infinity)
  const rest = items === false ? null : place.read(items, itemsName)
  if (minItems > (maxItems ?? Infinity) || (rest === null && minItems > prefix.length)) {
    throw new SchemaError(`"minItems" is over what the array may hold, at ${at}`)
  }
  const most = Math.min(maxItems ?? Infinity, rest === null ? prefix.length : Infinity)
  if ((keywords.uniqueItems ?? false) !== false && most > 1) place.leaveOut('uniqueItems')
  return { kind: 'array', prefix, items: rest, minItems, maxItems }
}
