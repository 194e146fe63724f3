import type { Geometry } from '../../rotation/rotation.ts'
import { maximiseAcquisition } from '../acquisition/maximise.ts'
import type { GradientOptions } from '../gradient/gradient.ts'
import { fitGaussianProcess } from '../models/fit.ts'
import { packPoints } from '../models/points.ts'
import { standardize } from '../models/standardize.ts'
import { createRng } from '../rng.ts'

/** Stream of the seed's generator, apart from those of the other optimisers. */
const STREAM_ACQUISITION = 22

/** Coordinates: learning rate, layer window, decay, scales, prompt dropout. */
const DIMENSION = 5
/** How far from the best configuration the model looks: what ends a search is a mean of good ones. */
const REGION_HALF_WIDTH = 0.5
/** At z = ±1 the learning rate is the default times or over this. */
const RATE_SPAN = 2
/** At z = ±1 this share of the layers is left out, from below (-1) or from above (1). */
const WINDOW_SHARE = 0.6
/** Windows this near to 0 leave nothing out: the whole depth is more than a point of the space. */
const WHOLE_WINDOW = 0.2
/** Decay at z = 1; at 0 and below there is none. */
const MAX_DECAY = 1

/** Below this z prompts are read whole; from there the share grows to its most at z = 1. */
const WHOLE_PROMPTS = -0.2
const DROPOUT_SPAN = [0.2, 0.8] as const

/** Steps grow with the rate's inverse to this power, for smaller steps take longer still to turn. */
const STEPS_POWER = 1
/** And with the share of the prompts that a step does without, so much more for all of it. */
const STEPS_OF_DROPOUT = 1.5
const MIN_STEPS_FACTOR = 0.6
const MAX_STEPS_FACTOR = 2

/** The defaults of gradient fitting. */
export const DEFAULT_CONFIGURATION: readonly number[] = [0, 0, -0.5, -0.5, 0]

/** Scales, and half of the prompts: best on some tasks, and far from it on others. */
const SCALED_CONFIGURATION: readonly number[] = [0, 0, -0.5, 0.5, 0.4]

/** A fifth of the prompts, and more steps: what little each step reads has to carry over. */
const SPARSE_CONFIGURATION: readonly number[] = [0, 0, -0.5, -0.5, 1]

/** Smaller steps, more of them and whole prompts: for tasks where every word counts. */
const SLOW_RATE = 0.6
const SLOW_CONFIGURATION: readonly number[] = [
  Math.log(SLOW_RATE) / Math.log(RATE_SPAN),
  0,
  -0.5,
  -0.5,
  -0.6,
]

/** What is left open by gradient fitting, as a point of the space says it. */
export type Configuration = Pick<
  GradientOptions,
  'learningRate' | 'numSteps' | 'layers' | 'decay' | 'hasLogScale' | 'promptDropout'
>

/** @param z in [-1, 1]⁵ */
export function toConfiguration(
  z: readonly number[],
  { numLayers }: Geometry,
  defaults: Pick<GradientOptions, 'learningRate' | 'numSteps' | 'promptDropout'>,
): Configuration {
  const [rate, window, decay, scale, dropout] = z as [number, number, number, number, number]
  const numOut =
    Math.abs(window) < WHOLE_WINDOW
      ? 0
      : Math.min(Math.round(Math.abs(window) * WINDOW_SHARE * numLayers), numLayers - 1)
  const bounds: [number, number] =
    window < 0 ? [numOut, numLayers - 1] : [0, numLayers - 1 - numOut]
  const promptDropout = dropoutOf(dropout)
  return {
    learningRate: Math.min(defaults.learningRate * RATE_SPAN ** rate, 1),
    numSteps: Math.round(
      (defaults.numSteps * stepsFactor(rate) * (1 + STEPS_OF_DROPOUT * promptDropout)) /
        (1 + STEPS_OF_DROPOUT * defaults.promptDropout),
    ),
    layers: numOut === 0 ? null : bounds,
    decay: Math.max(0, decay) * MAX_DECAY,
    hasLogScale: scale > 0,
    promptDropout,
  }
}

function dropoutOf(z: number): number {
  if (z < WHOLE_PROMPTS) return 0
  const [least, most] = DROPOUT_SPAN
  return least + ((most - least) * (z - WHOLE_PROMPTS)) / (1 - WHOLE_PROMPTS)
}

const stepsFactor = (rate: number): number =>
  Math.min(MAX_STEPS_FACTOR, Math.max(MIN_STEPS_FACTOR, RATE_SPAN ** (-STEPS_POWER * rate)))

/** What is known of a configuration; higher values are better. */
export type Told = { readonly z: readonly number[]; readonly value: number }

const KNOWN_CONFIGURATIONS = [
  DEFAULT_CONFIGURATION,
  SCALED_CONFIGURATION,
  SLOW_CONFIGURATION,
  SPARSE_CONFIGURATION,
]

/**
 * The next configuration: those known to be good, then the highest log expected improvement near the
 * best one, under a Gaussian process over all that is told. Pure.
 */
export function nextConfiguration(told: readonly Told[], seed: number): number[] {
  const known = KNOWN_CONFIGURATIONS[told.length]
  if (known !== undefined) return [...known]
  const points = packPoints(
    told.map(({ z }) => z),
    DIMENSION,
  )
  const { values } = standardize(told.map(({ value }) => value))
  const posterior = fitGaussianProcess(points, values)
  const best = told.reduce((a, b) => (b.value > a.value ? b : a))
  const region = {
    center: Float64Array.from(best.z),
    halfWidth: REGION_HALF_WIDTH,
    radius: DIMENSION,
  }
  const options = {
    rawSamples: 256,
    numRestarts: 4,
    numSteps: 20,
    perturbedCoordinates: DIMENSION,
  }
  const rng = createRng(seed, STREAM_ACQUISITION, told.length)
  return Array.from(maximiseAcquisition(posterior, Math.max(...values), region, options, rng))
}
