import { type LayerRotation, pairsPerLayer, type Rotation } from '../../rotation/rotation.ts'
import { type MaximiseOptions, maximiseAcquisition } from '../acquisition/maximise.ts'
import { bestOf, inOrder, isSuccess, type Success } from '../history.ts'
import { fitGaussianProcess, MAX_MODEL_POINTS } from '../models/fit.ts'
import { packPoints } from '../models/points.ts'
import { standardize } from '../models/standardize.ts'
import type { Observation, Optimiser, SearchSpec } from '../optimiser.ts'
import { createRng, type Rng } from '../rng.ts'

export type TarotOptions = {
  /** Layers rotated, from the first on; a shallower model has all of its layers rotated. */
  readonly numLayers: number
  /** Angles lie in ±this, radians. */
  readonly maxAngle: number
  /** Random trials before the model is used, after the identity. */
  readonly numInitial: number
  /**
   * Where the published code and the published idea differ, do as the code does: the acquisition
   * looks for the largest improvement of the *negated* score over its minimum, so it seeks what is
   * bad or unknown, and the model does not hear of the identity.
   */
  readonly asPublished: boolean
}

/** TaRot, arXiv 2410.04277: its settings for the smallest model it was shown on (Qwen2-1.5B). */
const DEFAULT_TAROT_OPTIONS: TarotOptions = {
  numLayers: 5,
  maxAngle: Math.PI / 4,
  numInitial: 4,
  asPublished: false,
}

/** Streams of the seed's generator, so that no two uses draw the same numbers. */
const STREAM_DESIGN = 1
const STREAM_ACQUISITION = 2
/**
 * Coordinates are kept in steps of 1e-4 (8e-5 rad, a sixth of float16's step at π/4): a trial of
 * 1,440 of them takes 10 kB of a job's storage instead of 28.
 */
const STEPS_A_UNIT = 10_000

/**
 * TaRot as a baseline at equal budget: a Gaussian process over all raw angles of the first layers,
 * log expected improvement over the whole box, one candidate a round after a random design. z holds
 * every angle, divided by `maxAngle`; z = 0, the first trial, is the identity, so that a job knows
 * what it has to beat. The published kernel (infinitely wide network) is replaced by Matérn 5/2.
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
      if (z.length !== dimension) throw new RangeError(`z of ${z.length}, not ${dimension}`)
      const layers = new Map<number, LayerRotation>()
      if (z.every((value) => value === 0)) return { geometry, layers }
      for (let at = 0; at < dimension; at += pairs) {
        const angles = Float32Array.from(z.slice(at, at + pairs), (value) => {
          if (!(Math.abs(value) <= 1)) throw new RangeError(`a coordinate is ${value}, past ±1`)
          return maxAngle * value
        })
        layers.set(at / pairs, { angles })
      }
      return { geometry, layers }
    },
    best: bestOf,
  }
}

/** Uniform draws from the box, the best of them improved; about 0.3 s at 150 points of 1,440. */
const maximiseOptions = (dimension: number): MaximiseOptions => ({
  rawSamples: 256,
  numRestarts: 4,
  numSteps: 20,
  perturbedCoordinates: dimension,
})

const toStep = (value: number): number => Math.round(value * STEPS_A_UNIT) / STEPS_A_UNIT + 0

/** The latest trials, and the best whenever it was. */
function recent(best: Success, trials: readonly Success[]): readonly Success[] {
  if (trials.length <= MAX_MODEL_POINTS) return trials
  const latest = trials.slice(1 - MAX_MODEL_POINTS)
  return latest.includes(best) ? latest : [best, ...latest]
}
