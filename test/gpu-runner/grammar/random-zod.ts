/** Random zod schemas, and random texts of converted schemas. */
import { z } from 'zod'
import type { SchemaNode } from '../../../gpu-runner/grammar/schema/node.ts'
import type { Pattern } from '../../../gpu-runner/grammar/schema/pattern.ts'
import { FORMATS } from '../../../gpu-runner/grammar/schema/string-formats.ts'
import type { createRng } from '../../../gpu-runner/sampling/rng.ts'

type Random = ReturnType<typeof createRng>
const pick = <T>(random: Random, of: readonly T[]): T => of[Math.floor(random() * of.length)]!
const below = (random: Random, most: number): number => Math.floor(random() * most)

const LEAVES: readonly ((random: Random) => z.ZodType)[] = [
  () => z.string(),
  (random) =>
    z
      .string()
      .min(below(random, 3))
      .max(3 + below(random, 4)),
  () => z.int(),
  (random) => z.int().min(-below(random, 50)).max(below(random, 5000)),
  () => z.number(),
  (random) =>
    z
      .number()
      .gt(-below(random, 9))
      .lt(1 + random() * 100),
  () => z.boolean(),
  () => z.null(),
  (random) => z.enum(['red', 'gr"ün', 'b/l', ''].slice(below(random, 3)) as [string]),
  (random) => z.literal(pick(random, ['a', 7, true])),
  () => z.literal(['x', 1, null]),
  (random) => pick(random, [z.email(), z.uuid(), z.uuidv4(), z.url(), z.ipv4(), z.ipv6()]),
  (random) => pick(random, [z.iso.date(), z.iso.time(), z.iso.datetime(), z.iso.duration()]),
  (random) => pick(random, [z.cuid2(), z.ulid(), z.nanoid(), z.e164(), z.hex(), z.hostname()]),
  () => z.string().regex(/^[A-Z]{2}-\d+(\.\d)?$/),
  () => z.string().startsWith('a"b').describe('begins so'),
  // No grammar can enforce these, so they are refused by name.
  () => z.jwt(),
  () => z.number().multipleOf(0.05),
]

export type ZodOptions = {
  /** Kinds that the official helper itself refuses. */
  readonly isRaw: boolean
}

/** @param depth levels of objects and arrays that it may still have */
function randomZod(random: Random, depth: number, options: ZodOptions): z.ZodType {
  const child = (): z.ZodType => randomZod(random, depth - 1, options)
  const kinds = ['leaf', 'leaf', 'leaf']
  if (depth > 0)
    kinds.push('object', 'object', 'array', 'union', 'nullable', 'told', 'both', 'tree')
  if (depth > 0 && options.isRaw) kinds.push('record', 'keys', 'tuple', 'catchall', 'partial')
  switch (pick(random, kinds)) {
    case 'object':
      return randomObject(random, depth, options)
    case 'partial':
      return z.object({ a: child(), b: child().optional(), c: child().default(null) })
    case 'catchall':
      return z.object({ a: child() }).catchall(child())
    case 'array': {
      const least = below(random, 3)
      return z
        .array(child())
        .min(least)
        .max(least + below(random, 3))
    }
    case 'tuple': {
      const items: [z.ZodType, z.ZodType] = [child(), child()]
      return random() < 0.5 ? z.tuple(items, child()) : z.tuple(items)
    }
    case 'union':
      return z.union([child(), child(), child()])
    case 'nullable':
      return child().nullable()
    case 'told':
      return z.discriminatedUnion('kind', [
        z.object({ kind: z.literal('p'), p: child() }),
        z.object({ kind: z.literal(['q', 'r']) }),
      ])
    case 'both':
      return z.intersection(z.object({ a: child() }), z.object({ b: child() }))
    case 'tree': {
      const Tree: z.ZodType = z.object({
        value: child(),
        get next() {
          return Tree.nullable()
        },
        get kids() {
          return z.array(Tree)
        },
      })
      return Tree
    }
    case 'record':
      return z.record(z.string(), child())
    case 'keys':
      return random() < 0.5
        ? z.record(z.enum(['k', 'l']), child())
        : z.record(z.string().regex(/^k\d$/), child())
    default:
      return pick(random, LEAVES)(random)
  }
}

export const randomObject = (random: Random, depth: number, options: ZodOptions): z.ZodObject =>
  z.object(
    Object.fromEntries(
      ['first', 'größe', 'a "b"'].map((name) => [name, randomZod(random, depth - 1, options)]),
    ),
  )

/** A value that a node admits, smaller the deeper it stands. */
export function randomValue(
  node: SchemaNode,
  targets: ReadonlyMap<string, SchemaNode>,
  random: Random,
  depth = 0,
): unknown {
  const inner = (child: SchemaNode): unknown => randomValue(child, targets, random, depth + 1)
  const isDeep = depth > 6
  switch (node.kind) {
    case 'any':
      return pick(random, [null, 1, 'x', [], {}])
    case 'boolean':
      return random() < 0.5
    case 'null':
      return null
    case 'literals':
      return JSON.parse(pick(random, node.texts))
    case 'string':
      return 'é'.repeat(
        node.minLength + below(random, 1 + Math.min(3, (node.maxLength ?? 9) - node.minLength)),
      )
    case 'format':
      return pick(random, FORMATS[node.format].samples)
    case 'pattern':
      return randomText(node.pattern, random)
    case 'integer':
    case 'number': {
      const step = node.kind === 'integer' ? 1 : 0.125
      const least = node.min === null ? -3 : node.min.value + (node.min.exclusive ? step : 0)
      const most = node.max === null ? least + 3 : node.max.value - (node.max.exclusive ? step : 0)
      return Math.min(most, least + step * below(random, 4))
    }
    case 'object':
      return Object.fromEntries(
        node.properties
          .filter(({ required }) => required || (!isDeep && random() < 0.5))
          .map((property) => [property.name, inner(property.node)]),
      )
    case 'map': {
      const count = Math.max(node.minProperties, isDeep ? 0 : below(random, 3))
      return Object.fromEntries(
        Array.from({ length: count }, (_, i) => [
          node.keys === null ? `key ${i}` : String(inner(node.keys)),
          inner(node.values),
        ]),
      )
    }
    case 'array': {
      const most = Math.min(node.maxItems ?? 3, node.items === null ? node.prefix.length : Infinity)
      const count = isDeep
        ? node.minItems
        : node.minItems + below(random, 1 + Math.max(0, most - node.minItems))
      return Array.from({ length: count }, (_, i) => inner(node.prefix[i] ?? node.items!))
    }
    case 'union': {
      const small = node.of.find(({ kind }) => kind === 'null' || kind === 'literals')
      return inner(isDeep && small !== undefined ? small : pick(random, node.of))
    }
    case 'ref':
      return inner(targets.get(node.target)!)
  }
}

function randomText(pattern: Pattern, random: Random): string {
  switch (pattern.kind) {
    case 'chars': {
      const [from, to] = pick(random, pattern.ranges)
      return String.fromCharCode(from + below(random, Math.min(to - from + 1, 90)))
    }
    case 'sequence':
      return pattern.of.map((part) => randomText(part, random)).join('')
    case 'either':
      return randomText(pick(random, pattern.of), random)
    case 'repeat': {
      const most = Math.min(pattern.max ?? Infinity, pattern.min + 2)
      const times = pattern.min + below(random, most - pattern.min + 1)
      return Array.from({ length: times }, () => randomText(pattern.of, random)).join('')
    }
  }
}
