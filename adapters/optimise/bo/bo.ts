import { type Geometry, pairsPerLayer } from '../../rotation/rotation.ts'
import { type Region, maximiseAcquisition } from '../acquisition/maximise.ts'
import { bestOf, inOrder, isSuccess, type Success } from '../history.ts'
import { fitGaussianProcess, MAX_MODEL_POINTS } from '../models/fit.ts'
import { packPoints } from '../models/points.ts'
import { standardize } from '../models/standardize.ts'
import type { BoSpec, Observation, Optimiser } from '../optimiser.ts'
import { createRng } from '../rng.ts'
import { projectToBall } from '../subspace/ball.ts'
import { createRandomSubspace } from '../subspace/random-subspace.ts'
import { spanOf, type Subspace } from '../subspace/subspace.ts'
import { latinHypercube } from './design.ts'
import { type BoOptions, DIRECTED_BO_OPTIONS, RANDOM_BO_OPTIONS } from './options.ts'
import { trustRegionLength } from './trust-region.ts'

export { type BoOptions, DIRECTED_BO_OPTIONS, RANDOM_BO_OPTIONS } from './options.ts'

/** Streams of the seed's generator, one per use, so that no two uses draw the same numbers. */
const STREAM_SUBSPACE = 1
const STREAM_DESIGN = 2
const STREAM_ACQUISITION = 3

/**
 * Bayesian optimisation in a low-dimensional subspace of the later layers' angles. The subspace is the
 * span of `directions`, or random.
 *
 * z has coordinates in [-1, 1] and a norm of at most 1 / boxShare; at that norm the angles' root
 * mean square is `maxRmsAngle`. The first round is the identity (z = 0) and a Latin hypercube scaled by
 * `initialShare`. Each later round is one candidate: the maximum of log expected improvement, under a
 * Matérn 5/2 Gaussian process, in a trust region around the best trial.
 * @throws {RangeError} an option or a direction is invalid for the geometry
 */
export function createBo(spec: BoSpec, options: Partial<BoOptions> = {}): Optimiser {
  const { geometry, seed, numTrials, directions = null } = spec
  const defaults = directions === null ? RANDOM_BO_OPTIONS : DIRECTED_BO_OPTIONS
  const settings = { ...defaults, ...options }
  const { numInitial, boxShare, initialShare } = settings
  checkSettings(settings)
  const firstLayer = firstSearchedLayer(geometry, settings)
  const numAngles = (geometry.numLayers - firstLayer) * pairsPerLayer(geometry)
  const radius = 1 / boxShare
  // The directions have length 1, so the norm of the angles is the norm of z times this.
  const unit = boxShare * settings.maxRmsAngle * Math.sqrt(numAngles)
  // A random subspace is made at its first use, because `ask` does not need its directions.
  let subspace: Subspace | null =
    directions === null ? null : spanOf(geometry, firstLayer, geometry.numLayers, directions)
  const dimension = subspace?.dimension ?? Math.min(settings.dimension, numAngles)
  const getSubspace = (): Subspace =>
    (subspace ??= createRandomSubspace(
      geometry,
      firstLayer,
      geometry.numLayers,
      dimension,
      createRng(seed, STREAM_SUBSPACE),
    ))

  const initialDesign = (): number[][] => [
    new Array<number>(dimension).fill(0),
    ...latinHypercube(numInitial - 1, dimension, createRng(seed, STREAM_DESIGN)).map((point) =>
      projectToBall(point, radius).map((value) => initialShare * value),
    ),
  ]

  const proposal = (history: readonly Observation[]): number[] => {
    const rng = createRng(seed, STREAM_ACQUISITION, history.length)
    const best = bestOf(history)
    if (best === null) {
      // No trial has succeeded, so there is no model: draw another random point.
      const point = Array.from({ length: dimension }, () => 2 * rng.uniform() - 1)
      return projectToBall(point, radius).map((value) => initialShare * value)
    }
    const nearest = nearestTo(best, history.filter(isSuccess), MAX_MODEL_POINTS)
    const points = packPoints(
      nearest.map(({ z }) => z),
      dimension,
    )
    const { values } = standardize(nearest.map(({ value }) => value))
    const region: Region = {
      center: Float64Array.from(best.z),
      // Half of length × 2, because lengths are shares of the box's width, 2.
      halfWidth: trustRegionLength(history, numInitial, settings),
      radius,
    }
    const posterior = fitGaussianProcess(points, values)
    return Array.from(maximiseAcquisition(posterior, Math.max(...values), region, settings, rng))
  }

  return {
    dimension,
    ask: (history) => {
      const told = inOrder(history)
      if (told.length >= numTrials) return []
      const initial = Math.min(numInitial, numTrials)
      if (told.length < initial) return initialDesign().slice(told.length, initial)
      return [proposal(told)]
    },
    toRotation: (z) => {
      if (z.length !== dimension)
        throw new RangeError(`z has ${z.length} coordinates, not ${dimension}`)
      const point = projectToBall([...z], radius)
      return getSubspace().toRotation(point.map((value) => value * unit))
    },
    best: bestOf,
  }
}

/** The first layer that `bo` rotates; directions cover the angles of this and all later layers. */
export const firstSearchedLayer = (
  { numLayers }: Geometry,
  { firstLayerShare }: Pick<BoOptions, 'firstLayerShare'> = DIRECTED_BO_OPTIONS,
): number => Math.min(Math.round(numLayers * firstLayerShare), numLayers - 1)

/** The `count` trials nearest to `best`, including `best`. */
function nearestTo(best: Success, trials: readonly Success[], count: number): readonly Success[] {
  if (trials.length <= count) return trials
  const distance = ({ z }: Success): number =>
    z.reduce((sum, value, k) => sum + (value - best.z[k]!) ** 2, 0)
  return [...trials].sort((a, b) => distance(a) - distance(b)).slice(0, count)
}

function checkSettings(settings: BoOptions): void {
  const { dimension, numInitial, maxRmsAngle, boxShare, initialShare, firstLayerShare } = settings
  if (!Number.isInteger(dimension) || dimension < 1)
    throw new RangeError(`dimension ${dimension} is not a positive integer`)
  if (!Number.isInteger(numInitial) || numInitial < 1) {
    throw new RangeError(`numInitial ${numInitial} is not a positive integer`)
  }
  if (!(maxRmsAngle > 0 && Number.isFinite(maxRmsAngle))) {
    throw new RangeError(`maxRmsAngle ${maxRmsAngle} is not positive and finite`)
  }
  if (!(boxShare > 0 && boxShare <= 1))
    throw new RangeError(`boxShare ${boxShare} is not in (0, 1]`)
  if (!(initialShare > 0 && initialShare <= 1))
    throw new RangeError(`initialShare ${initialShare} is not in (0, 1]`)
  if (!(firstLayerShare >= 0 && firstLayerShare < 1)) {
    throw new RangeError(`firstLayerShare ${firstLayerShare} is not in [0, 1)`)
  }
}
