import type { Geometry } from '../../rotation/rotation.ts'
import { maximiseAcquisition } from '../acquisition/maximise.ts'
import type { GradientOptions } from '../gradient/gradient.ts'
import { fitGaussianProcess } from '../models/fit.ts'
import { packPoints } from '../models/points.ts'
import { standardize } from '../models/standardize.ts'
import { createRng } from '../rng.ts'

/** Stream of the seed's generator; the other optimisers use others. */
const STREAM_ACQUISITION = 22

/** The coordinates of z: learning rate, layer window, decay, log scales, prompt dropout. */
const DIMENSION = 5
/** The search stays near the best configuration, because its result is a mean of good fits. */
const REGION_HALF_WIDTH = 0.5
/** The learning rate is the default times this at z = 1, and the default divided by it at z = -1. */
const RATE_SPAN = 2
/** At z = ±1 this share of the layers is not rotated: the first ones at -1, the last ones at 1. */
const WINDOW_SHARE = 0.6
/** With |z| below this all layers are rotated, so that they are more than one point of the space. */
const WHOLE_WINDOW = 0.2
/** Decay at z = 1; it is 0 at z ≤ 0. */
const MAX_DECAY = 1

/** Below this z there is no prompt dropout; from there it grows over `DROPOUT_SPAN` up to z = 1. */
const WHOLE_PROMPTS = -0.2
const DROPOUT_SPAN = [0.2, 0.8] as const

/** The number of steps grows with the inverse of the learning rate to this power. */
const STEPS_POWER = 1
/** It also grows with 1 + this · prompt dropout, because each step then reads less. */
const STEPS_OF_DROPOUT = 1.5
const MIN_STEPS_FACTOR = 0.6
const MAX_STEPS_FACTOR = 2

/** The defaults of `GradientSearch`. */
export const DEFAULT_CONFIGURATION: readonly number[] = [0, 0, -0.5, -0.5, 0]

/** With log scales and a dropout of half of the prompts: best on some tasks, poor on others. */
const SCALED_CONFIGURATION: readonly number[] = [0, 0, -0.5, 0.5, 0.4]

/** Reads a fifth of the prompts in each of more steps. */
const SPARSE_CONFIGURATION: readonly number[] = [0, 0, -0.5, -0.5, 1]

/** More and smaller steps on whole prompts, for tasks where every word counts. */
const SLOW_RATE = 0.6
const SLOW_CONFIGURATION: readonly number[] = [
  Math.log(SLOW_RATE) / Math.log(RATE_SPAN),
  0,
  -0.5,
  -0.5,
  -0.6,
]

/** The options of `GradientSearch` that the search over configurations sets. */
export type Configuration = Pick<
  GradientOptions,
  'learningRate' | 'numSteps' | 'layers' | 'decay' | 'hasLogScale' | 'promptDropout'
>

/** The configuration at a point of the space. @param z in [-1, 1]⁵ */
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

/** A configuration and its value; higher is better. */
export type EvaluatedConfiguration = { readonly z: readonly number[]; readonly value: number }

const KNOWN_CONFIGURATIONS = [
  DEFAULT_CONFIGURATION,
  SCALED_CONFIGURATION,
  SLOW_CONFIGURATION,
  SPARSE_CONFIGURATION,
]

/**
 * The next configuration. The first ones are known to be good; later ones maximise log expected
 * improvement near the best configuration, under a Gaussian process over all of `told`. Pure.
 * @returns z
 */
export function nextConfiguration(told: readonly EvaluatedConfiguration[], seed: number): number[] {
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
