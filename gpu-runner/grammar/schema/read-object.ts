import { escapePointer } from './json-pointer.ts'
import { SchemaError, type SchemaNode, type SchemaProperty } from './node.ts'
import { countAt, isRecord, type SchemaPlace } from './schema-place.ts'

/** Most keys counted in a map. */
const MAX_KEYS = 1000

/** An object of named properties, or a map whose values are all alike. */
export function readObject(place: SchemaPlace): SchemaNode {
  const { keywords, at } = place
  const { properties = {}, required = [], additionalProperties: others = true } = keywords
  if (!isRecord(properties)) throw new SchemaError(`"properties" must be an object, at ${at}`)
  if (!Array.isArray(required) || !required.every((name) => typeof name === 'string')) {
    throw new SchemaError(`"required" must be an array of names, at ${at}`)
  }
  const names = new Set<string>(required)
  const keys = readKeys(place)
  const known = Object.entries(properties).map(([name, schema]): SchemaProperty => ({
    name,
    node: place.read(schema, `properties/${escapePointer(name)}`),
    required: names.has(name),
  }))
  const readOthers = (): SchemaNode => place.read(others, 'additionalProperties')
  const listed = keys?.kind === 'literals' ? keys.texts.map((text) => String(JSON.parse(text))) : []
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
  const [min, max] = [countAt(place, 'minProperties') ?? 0, countAt(place, 'maxProperties')]
  if (all.length > 0 || others === false) {
    const inKeys = (name: string): boolean => keys?.kind !== 'literals' || listed.includes(name)
    if (keys !== null && keys.kind !== 'literals') place.leaveOut('propertyNames')
    const kept = all.filter(({ name, required: isNeeded }) => isNeeded || inKeys(name))
    if (!kept.every(({ name }) => inKeys(name))) {
      throw new SchemaError(`"propertyNames" bars a required property, at ${at}`)
    }
    const numRequired = kept.filter((property) => property.required).length
    if (min > numRequired) place.leaveOut('minProperties')
    if (max !== null && max < kept.length) place.leaveOut('maxProperties')
    return { kind: 'object', properties: kept }
  }
  // The grammar counts keys as they are written; to the schema a key written twice is one.
  if (min > 1) place.leaveOut('minProperties')
  if (min > (max ?? Infinity)) {
    throw new SchemaError(`"minProperties" is over "maxProperties", at ${at}`)
  }
  const isMaxHeld = max !== null && max <= MAX_KEYS
  if (max !== null && !isMaxHeld) place.leaveOut('maxProperties')
  return {
    kind: 'map',
    keys,
    values: readOthers(),
    minProperties: min === 0 ? 0 : 1,
    maxProperties: isMaxHeld ? max : null,
  }
}

/** @returns the node that every key satisfies; null where keys are free */
function readKeys(place: SchemaPlace): SchemaNode | null {
  const { propertyNames: names = true } = place.keywords
  // Keys are texts. Zod writes that type, others leave it out.
  const own = isRecord(names) && !('type' in names) ? { ...names, type: 'string' } : names
  const node = place.read(own, 'propertyNames')
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
  place.leaveOut('propertyNames')
  return null
}
