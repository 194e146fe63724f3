import { describe, it } from 'vitest'
import {
  type BoOptions,
  DIRECTED_BO_OPTIONS,
  firstSearchedLayer,
  RANDOM_BO_OPTIONS,
} from '../../../adapters/optimise/bo/bo.ts'
import { trustRegionLength } from '../../../adapters/optimise/bo/trust-region.ts'
import { MAX_MODEL_POINTS } from '../../../adapters/optimise/models/fit.ts'
import { createOptimiser, type OptimiserSpec } from '../../../adapters/optimise/create.ts'
import type { Observation, Optimiser } from '../../../adapters/optimise/optimiser.ts'
import { createRng } from '../../../adapters/optimise/rng.ts'
import { type Rotation, touchedLayers } from '../../../adapters/rotation/rotation.ts'

/** `bo` searches a random subspace, or the span of directions. */
const DIRECTED = 'bo along directions'
const NAMES: readonly (OptimiserSpec['name'] | typeof DIRECTED)[] = [
  'bo',
  DIRECTED,
  'random',
  'tarot',
  'tarot-published',
]
const geometry = { numLayers: 9, numHeads: 3, headDim: 8 }

type Objective = (z: readonly number[], optimiser: Optimiser) => number | null

/** Runs a search to its end and returns the trials, with the rounds' lengths. */
function run(optimiser: Optimiser, f: Objective): { history: Observation[]; rounds: number[] } {
  const history: Observation[] = []
  const rounds: number[] = []
  for (;;) {
    const round = optimiser.ask(history)
    if (round.length === 0) return { history, rounds }
    rounds.push(round.length)
    for (const z of round) history.push({ index: history.length, z, value: f(z, optimiser) })
  }
}

/** Directions over all layers that `bo` searches, like those that a job finds. */
function someDirections(count: number, seed: number): Float32Array[] {
  const rng = createRng(seed, 5000)
  const numAngles = (geometry.numLayers - firstSearchedLayer(geometry)) * 12
  return Array.from({ length: count }, () => Float32Array.from({ length: numAngles }, rng.normal))
}

function create(name: (typeof NAMES)[number], seed: number, numTrials: number): Optimiser {
  const common = { geometry, seed, numTrials } as const
  if (name !== DIRECTED) return createOptimiser({ ...common, name })
  return createOptimiser({ ...common, name: 'bo', directions: someDirections(10, 1) })
}
const createBo = (seed: number, numTrials: number, options: Partial<BoOptions>): Optimiser =>
  createOptimiser({ name: 'bo', geometry, seed, numTrials, options })

/** Minus the squared distance of the rotation's angles from one of norm 8, fixed by the seed. */
function towardHidden(seed: number): Objective {
  const rng = createRng(seed, 1000)
  const target = Float64Array.from({ length: 9 * 12 }, rng.normal)
  const norm = Math.hypot(...target)
  return (z, optimiser) => {
    const { layers } = optimiser.toRotation(z)
    let distance = 0
    for (let i = 0; i < target.length; i++) {
      const angle = layers.get(Math.floor(i / 12))?.angles[i % 12] ?? 0
      distance += (angle - (8 * target[i]!) / norm) ** 2
    }
    return -distance
  }
}

/** Quadratic with unequal curvatures along mixed axes, on z itself. */
function rotatedQuadratic(seed: number, dimension: number): (z: readonly number[]) => number {
  const rng = createRng(seed, 2000)
  const rows = Array.from({ length: dimension }, () =>
    Array.from({ length: dimension }, rng.normal),
  )
  const center = Array.from({ length: dimension }, () => 0.35 * rng.normal())
  return (z) =>
    -rows.reduce(
      (sum, row) => sum + row.reduce((dot, a, k) => dot + a * (z[k]! - center[k]!), 0) ** 2,
      0,
    ) / dimension
}

/** A search small enough to reach its optimum in a few dozen trials. */
const TWENTY: Partial<BoOptions> = { dimension: 20, boxShare: 0.5, perturbedCoordinates: 8 }

/** Norm of the part of a rotation outside the span of the vectors. */
function residual(of: readonly number[], vectors: readonly Float32Array[]): number {
  const rest = [...of]
  for (let pass = 0; pass < 100; pass++) {
    for (const vector of vectors) {
      const square = vector.reduce((sum, value) => sum + value * value, 0)
      const share = rest.reduce((sum, value, i) => sum + value * vector[i]!, 0) / square
      for (let i = 0; i < rest.length; i++) rest[i]! -= share * vector[i]!
    }
  }
  return Math.hypot(...rest)
}

function rmsAngle(rotation: Rotation): number {
  const angles = [...rotation.layers.values()].flatMap((layer) => [...layer.angles])
  return angles.length === 0 ? 0 : Math.hypot(...angles) / Math.sqrt(angles.length)
}

const median = (values: number[]): number =>
  values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!

describe.for(NAMES)('%s', (name) => {
  it('asks for the identity first, and for exactly numTrials trials', ({ expect }) => {
    for (const numTrials of [1, 5, 16, 17, 30]) {
      const optimiser = create(name, 1, numTrials)
      const { history } = run(optimiser, towardHidden(1))
      expect(history.length).toBe(numTrials)
      expect(optimiser.toRotation(history[0]!.z).layers.size).toBe(0)
      expect(history.every(({ z }) => z.length === optimiser.dimension)).toBe(true)
    }
  })

  it('gives the same candidates for a history that went through JSON', ({ expect }) => {
    const f = towardHidden(2)
    const { history } = run(create(name, 2, 30), f)
    for (let told = 0; told <= 30; told++) {
      const kept = JSON.parse(JSON.stringify(history.slice(0, told))) as Observation[]
      const again = create(name, 2, 30).ask(kept.reverse())
      expect(again).toEqual(history.slice(told, told + again.length).map(({ z }) => z))
      expect(again.length > 0).toBe(told < 30)
    }
    const z = history[20]!.z
    expect(create(name, 2, 30).toRotation(z)).toEqual(create(name, 2, 30).toRotation(z))
  })

  it('gives other candidates with another seed', ({ expect }) => {
    const [a, b] = [1, 2].map((seed) => {
      const optimiser = create(name, seed, 30)
      return optimiser.toRotation(optimiser.ask([])[1]!)
    })
    expect(a).not.toEqual(b)
  })

  it('ends if every trial fails, and repeats no candidate', ({ expect }) => {
    const optimiser = create(name, 3, 40)
    const { history } = run(optimiser, () => null)
    expect(history.length).toBe(40)
    expect(new Set(history.map(({ z }) => JSON.stringify(z))).size).toBe(40)
    expect(optimiser.best(history)).toBeNull()
  })

  it('continues after failed trials and values that are not finite', ({ expect }) => {
    const optimiser = create(name, 4, 40)
    const f = towardHidden(4)
    let calls = 0
    const bad = [null, NaN, Infinity, -Infinity]
    const { history } = run(optimiser, (z) =>
      ++calls % 3 === 0 ? bad[calls % 4]! : f(z, optimiser),
    )
    expect(history.length).toBe(40)
    const values = history.flatMap(({ value }) => (Number.isFinite(value) ? [value!] : []))
    expect(optimiser.best(history)!.value).toBe(Math.max(...values))
  })

  it('returns the earliest of equally good trials', ({ expect }) => {
    const z = [0]
    const history = [3, 1, 2].map((index) => ({ index, z, value: index === 3 ? 0 : 5 }))
    expect(create(name, 1, 9).best(history)!.index).toBe(1)
  })

  it('refuses a z that it cannot have given', ({ expect }) => {
    expect(() => create(name, 1, 9).toRotation([0.5, 0.5])).toThrow(RangeError)
  })
})

describe('bo', () => {
  it('rotates the later layers, with the initial design inside its share of the ball', ({
    expect,
  }) => {
    const optimiser = create('bo', 5, 30)
    const { maxRmsAngle, initialShare } = RANDOM_BO_OPTIONS
    for (const z of optimiser.ask([]).slice(1)) {
      const rotation = optimiser.toRotation(z)
      expect(touchedLayers(rotation)).toEqual([2, 3, 4, 5, 6, 7, 8])
      expect(rmsAngle(rotation)).toBeLessThanOrEqual(initialShare * maxRmsAngle * (1 + 1e-6))
    }
  })

  it('stays within the ball wherever the optimum lies', ({ expect }) => {
    const { maxRmsAngle } = RANDOM_BO_OPTIONS
    const optimiser = create('bo', 5, 40)
    // The farther the better.
    const { history } = run(optimiser, (z) => Math.hypot(...z))
    const largest = rmsAngle(optimiser.toRotation(optimiser.best(history)!.z))
    expect(largest).toBeGreaterThan(0.99 * maxRmsAngle)
    for (const { z } of history) {
      expect(rmsAngle(optimiser.toRotation(z))).toBeLessThanOrEqual(maxRmsAngle * (1 + 1e-6))
    }
    // A z outside the ball is projected too.
    const far = optimiser.toRotation(new Array<number>(optimiser.dimension).fill(1e3))
    expect(rmsAngle(far)).toBeCloseTo(maxRmsAngle, 5)
  })

  it('searches at most as many directions as there are angles', ({ expect }) => {
    const angles = (numLayers: number) => 12 * numLayers
    expect(create('bo', 1, 9).dimension).toBe(angles(7))
    const smollm2 = { numLayers: 30, numHeads: 9, headDim: 64 }
    const spec = { name: 'bo', geometry: smollm2, seed: 1, numTrials: 9 } as const
    expect(createOptimiser(spec).dimension).toBe(RANDOM_BO_OPTIONS.dimension)
  })

  it('asks for the initial design in one round and then one candidate per round', ({ expect }) => {
    const { rounds } = run(create('bo', 6, 20), towardHidden(6))
    expect(rounds).toEqual([16, 1, 1, 1, 1])
  })

  it('asks for the rest of a design after a crash', ({ expect }) => {
    const optimiser = create('bo', 6, 20)
    const design = optimiser.ask([])
    const told = design.slice(0, 5).map((z, index) => ({ index, z, value: -index }))
    expect(optimiser.ask(told)).toEqual(design.slice(5))
  })

  it('beats random search by far on quadratics in 20 dimensions', ({ expect }) => {
    const numTrials = 80
    const gains = [0, 1, 2, 3, 4].map((seed) => {
      const f = rotatedQuadratic(seed, 20)
      const optimiser = createBo(seed, numTrials, TWENTY)
      const found = optimiser.best(run(optimiser, f).history)!.value!
      const rng = createRng(seed, 3000)
      let random = -Infinity
      for (let i = 0; i < numTrials; i++) {
        random = Math.max(random, f(Array.from({ length: 20 }, () => 2 * rng.uniform() - 1)))
      }
      return found / Math.max(random, f(new Array<number>(20).fill(0)))
    })
    // Losses: at most a quarter of random search's, and of the identity's, in the median.
    expect(median(gains)).toBeLessThan(0.25)
    expect(Math.max(...gains)).toBeLessThan(1)
  })

  it('approaches a hidden rotation as far as its subspace allows', ({ expect }) => {
    // Of 108 angles 84 are in its layers and 20 directions of those are searched.
    const [bo, random] = [
      (seed: number) => createBo(seed, 60, TWENTY),
      (seed: number) => create('random', seed, 60),
    ].map((make) =>
      median(
        [0, 1, 2].map((seed) => {
          const optimiser = make(seed)
          return optimiser.best(run(optimiser, towardHidden(seed)).history)!.value!
        }),
      ),
    )
    expect(bo).toBeGreaterThan(random! + 3)
    expect(bo).toBeGreaterThan(-64 * (1 - 0.5 * (20 / 108)))
  })

  it('stays within the trust region around the best trial so far', ({ expect }) => {
    // The ball contains the whole box, so that only the region's box limits the search.
    const options = { boxShare: 0.2 }
    const spec = { name: 'bo', geometry, seed: 9, numTrials: 60, options } as const
    const optimiser = createOptimiser(spec)
    // Nothing is better than the identity, so the region shrinks again and again.
    const { history } = run(optimiser, (z) => -Math.hypot(...z))
    let narrowest = Infinity
    for (let told = 16; told < 60; told++) {
      const before = history.slice(0, told)
      const length = trustRegionLength(before, 16, RANDOM_BO_OPTIONS)
      const center = optimiser.best(before)!.z
      const steps = history[told]!.z.map((value, k) => Math.abs(value - center[k]!))
      expect(Math.max(...steps)).toBeLessThanOrEqual(length + 1e-12)
      narrowest = Math.min(narrowest, length)
    }
    expect(narrowest).toBe(0.8 / 32)
  })

  it('continues with more trials than its model holds', ({ expect }) => {
    const numTrials = MAX_MODEL_POINTS + 50
    const optimiser = createBo(8, numTrials, TWENTY)
    const f = rotatedQuadratic(8, 20)
    const rng = createRng(8, 4000)
    const history = Array.from({ length: numTrials - 1 }, (_, index) => {
      const z = Array.from({ length: 20 }, () => rng.uniform() - 0.5)
      return { index, z, value: f(z) }
    })
    const [z] = optimiser.ask(history)
    expect(z!.every(Number.isFinite)).toBe(true)
    // Far better than the median of the history.
    expect(f(z!)).toBeGreaterThan(median(history.map(({ value }) => value)) / 2)
  })

  it('searches the span of its directions, also if they are scaled or repeated', ({ expect }) => {
    const directions = someDirections(3, 2)
    const twice = [...directions, directions[1]!.map((value) => 2 * value)]
    const optimiser = createOptimiser({
      name: 'bo',
      geometry,
      seed: 1,
      numTrials: 40,
      directions: twice,
    })
    expect(optimiser.dimension).toBe(3)
    const { maxRmsAngle } = DIRECTED_BO_OPTIONS
    // The farther the better.
    const { history } = run(optimiser, (z) => Math.hypot(...z))
    const rotation = optimiser.toRotation(optimiser.best(history)!.z)
    expect(touchedLayers(rotation)).toEqual([2, 3, 4, 5, 6, 7, 8])
    // Three directions' box ends at √3 of the ball's radius, 3.
    expect(rmsAngle(rotation)).toBeGreaterThan(0.5 * maxRmsAngle)
    expect(rmsAngle(rotation)).toBeLessThanOrEqual(maxRmsAngle * (1 + 1e-6))
    const angles = [...rotation.layers.values()].flatMap((layer) => [...layer.angles])
    expect(residual(angles, directions)).toBeLessThan(1e-5 * Math.hypot(...angles))
  })

  it('refuses invalid directions', ({ expect }) => {
    const spec = { name: 'bo', geometry, seed: 1, numTrials: 9 } as const
    const [direction] = someDirections(1, 1)
    for (const directions of [
      [],
      [new Float32Array(direction!.length)],
      [direction!.slice(1)],
      [direction!.map(() => NaN)],
    ]) {
      expect(() => createOptimiser({ ...spec, directions })).toThrow(RangeError)
    }
  })

  it('accepts settings, and refuses invalid ones', ({ expect }) => {
    const spec = { name: 'bo', geometry, seed: 1, numTrials: 9 } as const
    expect(createOptimiser({ ...spec, options: { dimension: 7 } }).dimension).toBe(7)
    for (const options of [
      { dimension: 0 },
      { maxRmsAngle: 0 },
      { boxShare: 2 },
      { numInitial: 0 },
      { initialShare: 0 },
      { firstLayerShare: 1 },
    ]) {
      expect(() => createOptimiser({ ...spec, options })).toThrow(RangeError)
    }
    expect(() => createOptimiser({ ...spec, numTrials: 0 })).toThrow(/numTrials/)
    expect(() => createOptimiser({ ...spec, seed: 0.5 })).toThrow(/seed/)
  })
})

describe('random', () => {
  it('rotates the first five layers by uniform angles in ±π/4', ({ expect }) => {
    const optimiser = create('random', 7, 9)
    const rotation = optimiser.toRotation([3])
    expect(touchedLayers(rotation)).toEqual([0, 1, 2, 3, 4])
    const angles = [...rotation.layers.values()].flatMap((layer) => [...layer.angles])
    expect(Math.max(...angles.map(Math.abs))).toBeLessThanOrEqual(Math.PI / 4)
    expect(Math.max(...angles)).toBeGreaterThan(0.6)
    expect(Math.min(...angles)).toBeLessThan(-0.6)
  })

  it('asks for rounds of eight, and for the rest of a round after a crash', ({ expect }) => {
    const optimiser = create('random', 7, 20)
    expect(run(optimiser, () => 0).rounds).toEqual([8, 8, 4])
    const told = [0, 1, 2].map((index) => ({ index, z: [index], value: 0 }))
    expect(optimiser.ask(told)).toEqual([[3], [4], [5], [6], [7]])
  })
})
