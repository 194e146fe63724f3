/** Random JSON Schemas with enforced keywords only. */
import type { createRng } from '../../../gpu-runner/sampling/rng.ts'

type Random = ReturnType<typeof createRng>
const pick = <T>(random: Random, of: readonly T[]): T => of[Math.floor(random() * of.length)]!

const NAMES = ['name', 'age', 'city', 'tags', 'note', 'a"b\\c/d', 'größe', '名前', '']
const FORMATS = ['date-time', 'date', 'time', 'uuid', 'ipv4', 'email']
const VALUES = ['red', 'a/b "c"', 'naïve\n', 7, -0.25, true, null, ['x'], { y: [1] }]

/** @param depth levels of arrays and objects that it may still have */
export function randomSchema(random: Random, depth: number): Record<string, unknown> {
  const kinds = ['string', 'length', 'format', 'integer', 'number', 'boolean', 'enum', 'types']
  if (depth > 0) kinds.push('object', 'object', 'array', 'array', 'anyOf', 'map', 'tuple')
  const child = (): Record<string, unknown> => randomSchema(random, depth - 1)
  const bounds = (scale: number, round: (value: number) => number): Record<string, number> => {
    const low = round((random() * 2 - 1) * scale)
    const high = low + round(random() * scale) + 1
    return {
      ...(random() < 0.6 ? { [random() < 0.5 ? 'minimum' : 'exclusiveMinimum']: low } : {}),
      ...(random() < 0.6 ? { maximum: high } : {}),
    }
  }
  switch (pick(random, kinds)) {
    case 'length': {
      const minLength = Math.floor(random() * 3)
      return { type: 'string', minLength, maxLength: minLength + Math.floor(random() * 5) }
    }
    case 'format':
      return { type: 'string', format: pick(random, FORMATS) }
    case 'integer':
      return { type: 'integer', ...bounds(10 ** Math.floor(random() * 6), Math.round) }
    case 'number':
      return { type: 'number', ...bounds(20, (value) => Math.round(value * 100) / 100) }
    case 'boolean':
      return { type: 'boolean', description: 'yes or no' }
    case 'enum':
      return { enum: VALUES.filter(() => random() < 0.4).concat(['other']) }
    case 'types':
      return { type: ['string', 'null'] }
    case 'object': {
      const names = NAMES.filter(() => random() < 0.4)
      const properties = Object.fromEntries(names.map((name) => [name, child()]))
      const required = names.filter(() => random() < 0.6)
      return { type: 'object', properties, required, additionalProperties: random() < 0.5 }
    }
    case 'array': {
      const minItems = Math.floor(random() * 3)
      const maxItems = minItems + Math.floor(random() * 3)
      return { type: 'array', items: child(), minItems, ...(random() < 0.8 ? { maxItems } : {}) }
    }
    case 'tuple':
      return {
        type: 'array',
        prefixItems: [child(), child()],
        items: random() < 0.5 ? false : child(),
        minItems: Math.floor(random() * 3),
      }
    case 'anyOf':
      return { anyOf: [child(), child()] }
    case 'map':
      return { type: 'object', additionalProperties: child() }
    default:
      return { type: 'string' }
  }
}
