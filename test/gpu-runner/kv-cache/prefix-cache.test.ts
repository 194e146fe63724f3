import fc from 'fast-check'
import { describe, test } from 'vitest'
import { PrefixCache } from '../../../gpu-runner/kv-cache/prefix-cache.ts'
import { prefixKeys } from '../../../gpu-runner/kv-cache/prefix-keys.ts'

const MAX_BYTES = 20

/** Prompts over a small alphabet, one letter per block, so that they share beginnings. */
const prompt = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 6 })
const chainOf = (blocks: readonly string[]): string[] =>
  blocks.map((_, i) => blocks.slice(0, i + 1).join(''))
/** A block's size depends on its key, as a short last chunk's does. */
const sizeOf = (key: string): number => 1 + (key.charCodeAt(key.length - 1) % 4)

type Block = { readonly key: string; readonly sizeBytes: number }

/** Invariants after every step. */
function validate(cache: PrefixCache<Block>): string[] {
  const keys = cache.keys()
  const bytes = keys.reduce((sum, key) => sum + sizeOf(key), 0)
  const faults: string[] = []
  if (bytes !== cache.sizeBytes) faults.push(`counts ${cache.sizeBytes} bytes, holds ${bytes}`)
  if (bytes > MAX_BYTES) faults.push('over budget')
  for (const [i, key] of keys.entries()) {
    const parent = key.slice(0, -1)
    if (parent !== '' && keys.indexOf(parent) < i) faults.push(`${key} may outlive ${parent}`)
  }
  return faults
}

describe('prefix cache', () => {
  test('stays in budget, serves each key its own block, and keeps chains whole', ({ expect }) => {
    const step = fc.record({ blocks: prompt, isInsert: fc.boolean() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const cache = new PrefixCache<Block>(MAX_BYTES)
        for (const { blocks, isInsert } of steps) {
          const keys = chainOf(blocks)
          const before = cache.keys()
          const found = cache.lookup(keys)
          expect(found.map(({ key }) => key)).toEqual(keys.slice(0, found.length))
          // A lookup stops only at a missing block.
          expect(before).not.toContain(keys[found.length])
          if (isInsert) {
            for (let end = found.length + 1; end <= keys.length; end++) {
              const chain = keys.slice(0, end)
              const key = chain[end - 1]!
              const kept = cache.insert(chain, sizeOf(key), () => ({ key, sizeBytes: sizeOf(key) }))
              expect(cache.keys().includes(key)).toBe(kept)
              expect(validate(cache)).toEqual([])
            }
          }
          expect(validate(cache)).toEqual([])
        }
      }),
    )
  })

  test('evicts the least recently used blocks, and the ends of chains before their starts', ({
    expect,
  }) => {
    const cache = new PrefixCache<Block>(4)
    const put = (chain: string[]) =>
      cache.insert(chain, 1, () => ({ key: chain.at(-1)!, sizeBytes: 1 }))
    put(['a'])
    put(['a', 'ab'])
    put(['c'])
    put(['d'])
    cache.lookup(['a', 'ab'])
    put(['e'])
    expect(cache.keys()).toEqual(['d', 'ab', 'a', 'e'])
    put(['f'])
    put(['g'])
    expect(cache.keys()).toEqual(['a', 'e', 'f', 'g'])
  })

  test('refuses a block that cannot fit beside its own chain, without evicting others', ({
    expect,
  }) => {
    const cache = new PrefixCache<Block>(4)
    const never = (): Block => {
      throw new Error('made for nothing')
    }
    cache.insert(['a'], 2, () => ({ key: 'a', sizeBytes: 2 }))
    cache.insert(['b'], 2, () => ({ key: 'b', sizeBytes: 2 }))
    expect(cache.insert(['a', 'ab'], 3, never)).toBe(false)
    expect(cache.insert(['x', 'xy'], 1, never)).toBe(false)
    expect(new PrefixCache<Block>(0).insert(['a'], 1, never)).toBe(false)
    expect(cache.keys()).toEqual(['a', 'b'])
  })
})

describe('prefix keys', () => {
  const owner = { tenant: 't', buildDigest: 'b', rotation: '' }
  const chunks = [
    [0, 2],
    [2, 4],
    [4, 5],
  ] as const

  test('are equal exactly as far as tenant and tokens are', ({ expect }) => {
    const id = fc.integer({ min: 0, max: 2 })
    const five = fc.array(id, { minLength: 5, maxLength: 5 })
    fc.assert(
      fc.property(five, five, (a, b) => {
        const [keysA, keysB] = [prefixKeys(owner, a, chunks), prefixKeys(owner, b, chunks)]
        for (const [i, [, end]] of chunks.entries()) {
          const isSame = JSON.stringify(a.slice(0, end)) === JSON.stringify(b.slice(0, end))
          expect(keysA[i] === keysB[i]).toBe(isSame)
        }
      }),
    )
  })

  test('differ for another tenant, build, rotation or length of the last chunk', ({ expect }) => {
    const ids = [1, 2, 3, 4, 5]
    const variants = [
      prefixKeys(owner, ids, chunks),
      prefixKeys({ ...owner, tenant: 'u' }, ids, chunks),
      prefixKeys({ ...owner, buildDigest: 'c' }, ids, chunks),
      prefixKeys({ ...owner, rotation: '[["d",1]]' }, ids, chunks),
    ]
    expect(new Set(variants.flat()).size).toBe(4 * chunks.length)
    expect(prefixKeys(owner, ids, [[0, 3]])[0]).not.toBe(prefixKeys(owner, ids, [[0, 2]])[0])
  })
})
