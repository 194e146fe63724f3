import { type LayerRotation, pairsPerLayer, type Rotation } from '../../rotation/rotation.ts'
import { bestOf } from '../history.ts'
import type { Optimiser, SearchSpec } from '../optimiser.ts'
import { createRng } from '../rng.ts'

export type RandomOptions = {
  /** Number of rotated layers, from the first on; at most the model's. */
  readonly numLayers: number
  /** Angles are uniform in ±maxAngle, radians. */
  readonly maxAngle: number
  /** Number of candidates in one round. */
  readonly roundLen: number
}

/**
 * The search space that TaRot uses for its 1.5B model (arXiv 2410.04277). Measured here, its Gaussian
 * process does no better than random draws from that space.
 */
const DEFAULT_RANDOM_OPTIONS: RandomOptions = {
  numLayers: 5,
  maxAngle: Math.PI / 4,
  // A crash loses at most one round, and a runner scores this many candidates in one call.
  roundLen: 8,
}

/** Stream of the seed's generator. */
const STREAM_ANGLES = 1

/**
 * Random search, the baseline at equal budget. A trial has too many raw angles to store (1,440 for
 * SmolLM2-135M), so z is one number, the trial's index, and `toRotation` draws the angles again from
 * (seed, index). z = [0] is the identity, so the best trial is never below the base model on the job's
 * examples. Any other z draws every angle independently.
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
        throw new RangeError('z is not one whole number')
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

/** Number of trials up to the end of the round that contains trial `numTold`. */
const roundEnd = (numTold: number, roundLen: number): number =>
  (Math.floor(numTold / roundLen) + 1) * roundLen
