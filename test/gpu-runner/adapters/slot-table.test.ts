import fc from 'fast-check'
import { describe, test } from 'vitest'
import type { Rotation } from '../../../adapters/rotation/rotation.ts'
import { IDENTITY_SLOT, SlotTable } from '../../../gpu-runner/adapters/slot-table.ts'
import { RunnerFault } from '../../../gpu-runner/runner-fault.ts'

const GEOMETRY = { numLayers: 2, numHeads: 1, headDim: 4 }
const NUM_SLOTS = 4
/** The rotation of key n rotates layer 1 by n. */
const rotationOf = (n: number): Rotation => ({
  geometry: GEOMETRY,
  layers: new Map([[1, { angles: Float32Array.of(n, n) }]]),
})

describe('slot table', () => {
  test('the identity has a slot from the start and keeps it', ({ expect }) => {
    const table = new SlotTable(GEOMETRY, NUM_SLOTS)
    expect(table.keyOf(IDENTITY_SLOT)).toBe('')
    expect([...table.cos[0]!.subarray(0, 2), ...table.sin[0]!.subarray(0, 2)]).toEqual([1, 1, 0, 0])
    table.release(IDENTITY_SLOT)
    for (let n = 1; n <= 10; n++) table.release(table.acquire(`${n}`, () => rotationOf(n)))
    expect([...table.cos[1]!.subarray(0, 2)]).toEqual([1, 1])
  })

  test('a full table refuses with a retryable fault', ({ expect }) => {
    const table = new SlotTable(GEOMETRY, 2)
    table.acquire('a', () => rotationOf(1))
    expect(() => table.acquire('b', () => rotationOf(2))).toThrow(RunnerFault)
    expect(table.acquire('a', () => rotationOf(1))).toBe(1)
  })

  test('under any order of leases a slot holds its own rotation while leased', ({ expect }) => {
    const steps = fc.array(
      fc.record({
        key: fc.integer({ min: 1, max: 6 }),
        action: fc.constantFrom('acquire', 'release', 'discard'),
      }),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(steps, (actions) => {
        const table = new SlotTable(GEOMETRY, NUM_SLOTS)
        const leases = new Map<number, { slot: number; count: number }>()
        for (const { key, action } of actions) {
          const held = leases.get(key)
          if (action === 'acquire') {
            const isFull = leases.size === NUM_SLOTS - 1 && !held
            if (isFull) {
              expect(() => table.acquire(`${key}`, () => rotationOf(key))).toThrow(RunnerFault)
              continue
            }
            const slot = table.acquire(`${key}`, () => rotationOf(key))
            if (held) expect(slot).toBe(held.slot)
            leases.set(key, { slot, count: (held?.count ?? 0) + 1 })
          } else if (held) {
            if (action === 'release') table.release(held.slot)
            else table.discard(held.slot)
            if (held.count === 1) leases.delete(key)
            else leases.set(key, { slot: held.slot, count: held.count - 1 })
          }
          expect(table.numLeased).toBe(leases.size)
          expect(new Set([...leases.values()].map(({ slot }) => slot)).size).toBe(leases.size)
          for (const [leased, { slot }] of leases) {
            expect(table.keyOf(slot)).toBe(`${leased}`)
            expect(table.layers(slot)).toEqual([1])
            expect(table.cos[1]![2 * slot]).toBe(Math.fround(Math.cos(leased)))
          }
        }
      }),
    )
  })
})
