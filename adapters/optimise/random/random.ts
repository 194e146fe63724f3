import { type LayerRotation, pairsPerLayer, type Rotation } from '../../rotation/rotation.ts'
import { bestOf } from '../history.ts'
import type { Optimiser, SearchSpec } from '../optimiser.ts'
import { createRng } from '../rng.ts'

export type RandomOptions = {
  /** Layers rotated, from the first on; a shallower model has all of its layers rotated. */
  readonly numLayers: number
  /** Angles are uniform in ±this, radians. */
  readonly maxAngle: number
  /** Candidates of one round. */
  readonly roundLen: number
}

/**
 * The published recipe's search space (TaRot, arXiv 2410.04277, its 1.5B model): its Gaussian
 * process was measured to do no better than drawing from the space at random.
 */
const DEFAULT_RANDOM_OPTIONS: RandomOptions = {
  numLayers: 5,
  maxAngle: Math.PI / 4,
  // A crash loses at most this many trials, and a runner scores as many in one call comfortably.
  roundLen: 8,
}

/** Streams of the seed's generator, so that no two uses draw the same numbers. */
const STREAM_ANGLES = 1

/**
 * Random search, the baseline at equal budget. A trial's raw angles (1,440 for SmolLM2-135M) are too
 * many to keep with each trial, so z is one number, the trial's index, and the angles are drawn
 * again from (seed, index). z = [0] is the identity, so the search never ends below the base model
 * on its own examples; any other z draws every angle independently.
 */
export function createRandom(spec: SearchSpec, options: Partial<RandomOptions> = {}): Optimiser {
  const { geometry, seed, numTrials } = spec
  const { numLayers, maxAngle, roundLen } = { ...DEFAULT_RANDOM_OPTIONS, ...options }
  const rotatedLayers = Math.min(numLayers, geometry.numLayers)

  return {
    dimension: 1,
    ask: (history) => {
      const end = Math.min(roundEnd(history.length, roundLen), numTrials)
      return Array.from({ length: Math.max(0, end - history.length) }, (_, i) => [
        history.length + i,
      ])
    },
    toRotation: (z): Rotation => {
      const trial = z[0]
      if (z.length !== 1 || !Number.isSafeInteger(trial)) {
        throw new RangeError('z of random search is one whole number')
      }
      const layers = new Map<number, LayerRotation>()
      if (trial === 0) return { geometry, layers }
      const rng = createRng(seed, STREAM_ANGLES, trial!)
      for (let layer = 0; layer < rotatedLayers; layer++) {
        const angles = new Float32Array(pairsPerLayer(geometry))
        for (let i = 0; i < angles.length; i++) angles[i] = maxAngle * (2 * rng.uniform() - 1)
        layers.set(layer, { angles })
      }
      return { geometry, layers }
    },
    best: bestOf,
  }
}

/** Where the round that trial `numTold` belongs to ends. */
const roundEnd = (numTold: number, roundLen: number): number =>
  (Math.floor(numTold / roundLen) + 1) * roundLen
