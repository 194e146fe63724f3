import { describe, it } from 'vitest'
import { createOptimiser } from '../../../../adapters/optimise/create.ts'
import type { Observation } from '../../../../adapters/optimise/optimiser.ts'
import { createTarot } from '../../../../adapters/optimise/tarot/tarot.ts'
import { touchedLayers } from '../../../../adapters/rotation/rotation.ts'

const geometry = { numLayers: 9, numHeads: 3, headDim: 8 }
const spec = { geometry, seed: 4, numTrials: 60 } as const
const PAIRS = 12

type Search = ReturnType<typeof createTarot>

function run(search: Search, f: (z: readonly number[]) => number): Observation[] {
  const history: Observation[] = []
  for (let round = search.ask(history); round.length > 0; round = search.ask(history)) {
    for (const z of round) history.push({ index: history.length, z, value: f(z) })
  }
  return history
}

describe('tarot', () => {
  it('rotates the first five layers by raw angles in ±π/4', ({ expect }) => {
    const search = createOptimiser({ ...spec, name: 'tarot' })
    expect(search.dimension).toBe(5 * PAIRS)
    const round = search.ask([])
    expect(round).toHaveLength(5)
    const rotation = search.toRotation(round[1]!)
    expect(touchedLayers(rotation)).toEqual([0, 1, 2, 3, 4])
    const angles = [...rotation.layers.values()].flatMap((layer) => [...layer.angles])
    expect(Math.max(...angles)).toBeGreaterThan(0.6)
    expect(Math.min(...angles)).toBeLessThan(-0.6)
    expect(Math.max(...angles.map(Math.abs))).toBeLessThanOrEqual(Math.PI / 4)
    // Every angle has a coordinate of its own.
    const ones = search.toRotation(new Array<number>(60).fill(0).with(27, 1))
    expect(ones.layers.get(2)!.angles[3]).toBe(Math.fround(Math.PI / 4))
    expect(touchedLayers(ones)).toEqual([2])
    expect(() => search.toRotation([0])).toThrow(RangeError)
    expect(() => search.toRotation(new Array<number>(60).fill(2))).toThrow(RangeError)
  })

  it('goes uphill, where the published sign goes downhill', ({ expect }) => {
    // A plane has one clear direction, which a correct acquisition must find and follow.
    const plane = (z: readonly number[]) => z.reduce((sum, value) => sum + value, 0)
    const small = { numLayers: 1 }
    const late = (history: readonly Observation[]) =>
      history.slice(-20).reduce((sum, { value }) => sum + value!, 0) / 20
    const correct = late(run(createTarot(spec, small), plane))
    const published = late(run(createTarot(spec, { ...small, asPublished: true }), plane))
    // Twenty random points of the box average 0 ± 0.45: six deviations up, and none down.
    expect(correct).toBeGreaterThan(2.7)
    expect(published).toBeLessThan(-2.7)
  })

  it('as published leaves the identity out of its model', ({ expect }) => {
    const search = createTarot({ ...spec, numTrials: 9 }, { asPublished: true })
    const told = search.ask([]).map((z, index) => ({ index, z, value: index }))
    const other = told.map((trial) => (trial.index === 0 ? { ...trial, value: 99 } : trial))
    expect(search.ask(other)).toEqual(search.ask(told))
    const correct = createTarot({ ...spec, numTrials: 9 })
    expect(correct.ask(other)).not.toEqual(correct.ask(told))
  })

  it(
    'asks within seconds at the most points its model holds',
    { timeout: 60_000 },
    ({ expect }) => {
      const search = createTarot({
        ...spec,
        geometry: { numLayers: 30, numHeads: 9, headDim: 64 },
        numTrials: 1000,
      })
      const first = search.ask([])[1]!
      const history = Array.from({ length: 400 }, (_, index) => ({
        index,
        z: first.map((value, i) => first[(i + index) % first.length]! * (value < 0 ? 1 : -1)),
        value: Math.sin(index),
      }))
      const startedAtMs = performance.now()
      const [z] = search.ask(history)
      const seconds = (performance.now() - startedAtMs) / 1000
      console.log(`one round at 300 points of ${search.dimension} angles: ${seconds.toFixed(2)} s`)
      expect(z).toHaveLength(1440)
      // A Durable Object may use 30 s of CPU; a slow machine gets a third of that.
      expect(seconds).toBeLessThan(10)
      expect(JSON.stringify(z).length).toBeLessThan(13_000)
    },
  )
})
