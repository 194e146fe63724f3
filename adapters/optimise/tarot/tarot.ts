import { type LayerRotation, pairsPerLayer, type Rotation } from '../../rotation/rotation.ts'
import { type MaximiseOptions, maximiseAcquisition } from '../acquisition/maximise.ts'
import { bestOf, inOrder, isSuccess, type Success } from '../history.ts'
import { fitGaussianProcess, MAX_MODEL_POINTS } from '../models/fit.ts'
import { packPoints } from '../models/points.ts'
import { standardize } from '../models/standardize.ts'
import type { Observation, Optimiser, SearchSpec } from '../optimiser.ts'
import { createRng, type Rng } from '../rng.ts'

export type TarotOptions = {
  /** Number of rotated layers, from the first on; at most the model's. */
  readonly numLayers: number
  /** Angles lie in ±maxAngle, radians. */
  readonly maxAngle: number
  /** Number of random trials after the identity; later trials use the model. */
  readonly numInitial: number
  /**
   * Follow the published code where it differs from the paper. Its acquisition maximises the
   * improvement of the *negated* score over its minimum, so it seeks bad or unknown points, and its
   * model ignores the identity.
   */
  readonly asPublished: boolean
}

/** TaRot's settings for its smallest model, Qwen2-1.5B (arXiv 2410.04277). */
const DEFAULT_TAROT_OPTIONS: TarotOptions = {
  numLayers: 5,
  maxAngle: Math.PI / 4,
  numInitial: 4,
  asPublished: false,
}

/** Streams of the seed's generator, one per use, so that no two uses draw the same numbers. */
const STREAM_DESIGN = 1
const STREAM_ACQUISITION = 2
/**
 * Coordinates are rounded to 1e-4 (8e-5 rad, a sixth of float16's step at π/4), so that a trial with
 * 1,440 of them takes 10 kB of a job's storage instead of 28.
 */
const STEPS_A_UNIT = 10_000

/**
 * TaRot as a baseline at equal budget. It models all raw angles of the first layers with a Gaussian
 * process and, after a random design, maximises log expected improvement over the whole box, one
 * candidate per round. z holds every angle divided by `maxAngle`. The first trial, z = 0, is the
 * identity, so that the job measures the base model. A Matérn 5/2 kernel replaces the published one
 * (of an infinitely wide network).
 */
export function createTarot(spec: SearchSpec, options: Partial<TarotOptions> = {}): Optimiser {
  const { geometry, seed, numTrials } = spec
  const { numLayers, maxAngle, numInitial, asPublished } = { ...DEFAULT_TAROT_OPTIONS, ...options }
  const pairs = pairsPerLayer(geometry)
  const dimension = Math.min(numLayers, geometry.numLayers) * pairs
  const draw = (rng: Rng): number[] =>
    Array.from({ length: dimension }, () => toStep(2 * rng.uniform() - 1))
  const initialDesign = (): number[][] => [
    new Array<number>(dimension).fill(0),
    ...Array.from({ length: numInitial }, (_, i) => draw(createRng(seed, STREAM_DESIGN, i))),
  ]

  const proposal = (history: readonly Observation[]): number[] => {
    const rng = createRng(seed, STREAM_ACQUISITION, history.length)
    const heard = history.filter(({ index }) => !asPublished || index > 0)
    const best = bestOf(heard)
    if (best === null) return draw(rng)
    const kept = recent(best, heard.filter(isSuccess))
    const scores = standardize(kept.map(({ value }) => value)).values
    const values = asPublished ? scores.map((score) => -score) : scores
    const points = packPoints(
      kept.map(({ z }) => z),
      dimension,
    )
    const posterior = fitGaussianProcess(points, values)
    const bestF = asPublished ? Math.min(...values) : Math.max(...values)
    const box = { center: new Float64Array(dimension), halfWidth: 1, radius: Infinity }
    const found = maximiseAcquisition(posterior, bestF, box, maximiseOptions(dimension), rng)
    return Array.from(found, toStep)
  }

  return {
    dimension,
    ask: (history) => {
      const told = inOrder(history)
      if (told.length >= numTrials) return []
      const initial = Math.min(numInitial + 1, numTrials)
      if (told.length < initial) return initialDesign().slice(told.length, initial)
      return [proposal(told)]
    },
    toRotation: (z): Rotation => {
      if (z.length !== dimension)
        throw new RangeError(`z has ${z.length} coordinates, not ${dimension}`)
      const layers = new Map<number, LayerRotation>()
      if (z.every((value) => value === 0)) return { geometry, layers }
      for (let at = 0; at < dimension; at += pairs) {
        const angles = Float32Array.from(z.slice(at, at + pairs), (value) => {
          if (!(Math.abs(value) <= 1)) throw new RangeError(`the coordinate ${value} is outside ±1`)
          return maxAngle * value
        })
        layers.set(at / pairs, { angles })
      }
      return { geometry, layers }
    },
    best: bestOf,
  }
}

/** Takes about 0.3 s with 150 points of 1,440 coordinates. */
const maximiseOptions = (dimension: number): MaximiseOptions => ({
  rawSamples: 256,
  numRestarts: 4,
  numSteps: 20,
  perturbedCoordinates: dimension,
})

const toStep = (value: number): number => Math.round(value * STEPS_A_UNIT) / STEPS_A_UNIT + 0

/** The latest trials, and the best one even if it is older. */
function recent(best: Success, trials: readonly Success[]): readonly Success[] {
  if (trials.length <= MAX_MODEL_POINTS) return trials
  const latest = trials.slice(1 - MAX_MODEL_POINTS)
  return latest.includes(best) ? latest : [best, ...latest]
}
