/**
 * Largest |ln r| that a table applies. A composition at the largest weights could exceed float32, and
 * one infinity in a table makes every later logit NaN. No model gives sense at e^±16.
 */
export const MAX_APPLIED_LOG_SCALE = 16

/** The attention layout that a rotation fits: one angle for each adjacent pair of each head's z. */
export type Geometry = {
  readonly numLayers: number
  readonly numHeads: number
  /** Even; a head has `headDim / 2` pairs. */
  readonly headDim: number
}

/** One layer's multipliers r·e^{iθ}, one per pair, row-major [numHeads, headDim / 2]. */
export type LayerRotation = {
  /** θ in radians. */
  readonly angles: Float32Array
  /** ln r; absent means r = 1 throughout. */
  readonly logScale?: Float32Array
}

/** A rotation of the whole model. A layer that is absent from `layers` is not rotated. */
export type Rotation = {
  readonly geometry: Geometry
  readonly layers: ReadonlyMap<number, LayerRotation>
}

/** One term of a composition: the rotation's angles and log scales times `weight`. */
export type RotationTerm = { readonly rotation: Rotation; readonly weight: number }

/** Number of pairs in one layer, numHeads · headDim / 2: the length of its angles. */
export const pairsPerLayer = ({ numHeads, headDim }: Geometry): number => (numHeads * headDim) / 2

const sameGeometry = (a: Geometry, b: Geometry): boolean =>
  a.numLayers === b.numLayers && a.numHeads === b.numHeads && a.headDim === b.headDim

/** The rotation that leaves the base model as it is. */
export const identityRotation = (geometry: Geometry): Rotation => ({
  geometry,
  layers: new Map(),
})

/**
 * Multiplies all angles and log scales by one number: 0 is the base model, 1 the rotation itself.
 * @throws {RangeError} `strength` is not finite
 */
export const scaleRotation = (rotation: Rotation, strength: number): Rotation =>
  composeRotations(rotation.geometry, [{ rotation, weight: strength }])

/** The rotation that undoes this one; their composition is exactly the identity. */
export const inverseRotation = (rotation: Rotation): Rotation => scaleRotation(rotation, -1)

/**
 * Weighted sum of angles and of log scales. Multipliers on the same pairs commute, so the sum equals
 * the weighted terms applied one after another, in any order.
 * Summed in float64 and rounded once to float32; a layer whose sum is zero is omitted.
 * @throws {RangeError} a term has another geometry, or a weight is not finite
 */
export function composeRotations(geometry: Geometry, terms: readonly RotationTerm[]): Rotation {
  for (const { rotation, weight } of terms) {
    if (!sameGeometry(rotation.geometry, geometry)) {
      throw new RangeError('composed rotations must have one geometry')
    }
    if (!Number.isFinite(weight)) throw new RangeError(`weight ${weight} is not finite`)
  }
  const numbers = new Set(terms.flatMap(({ rotation }) => [...rotation.layers.keys()]))
  const layers = new Map<number, LayerRotation>()
  for (const layer of [...numbers].sort((a, b) => a - b)) {
    const angles = weightedSum(geometry, terms, layer, (values) => values.angles)
    const logScale = weightedSum(geometry, terms, layer, (values) => values.logScale)
    if (hasNonzero(logScale)) layers.set(layer, { angles, logScale })
    else if (hasNonzero(angles)) layers.set(layer, { angles })
  }
  return { geometry, layers }
}

/** Layers with any nonzero angle or log scale, ascending. */
export function touchedLayers(rotation: Rotation): number[] {
  const touched: number[] = []
  for (const [layer, { angles, logScale }] of rotation.layers) {
    if (hasNonzero(angles) || (logScale !== undefined && hasNonzero(logScale))) touched.push(layer)
  }
  return touched.sort((a, b) => a - b)
}

/**
 * Writes one layer's rotation as the tables that RotaryEmbedding reads: r·cos θ and r·sin θ.
 * Computed in float64 and rounded once. The identity is written as exactly 1 and +0.
 * @param layer undefined for the identity
 * @param cos destination; `[offset, offset + length)` is written
 * @param sin destination, written in the same range
 * @param length number of pairs in the layer, numHeads · headDim / 2
 * @throws {RangeError} the layer has another number of pairs, or the tables are too short
 */
export function writeRotationTable(
  layer: LayerRotation | undefined,
  cos: Float32Array,
  sin: Float32Array,
  offset: number,
  length: number,
): void {
  if (offset < 0 || offset + length > cos.length || offset + length > sin.length) {
    throw new RangeError(
      `pairs ${offset}..${offset + length} are outside tables of ${cos.length} and ${sin.length}`,
    )
  }
  if (layer === undefined) {
    cos.fill(1, offset, offset + length)
    sin.fill(0, offset, offset + length)
    return
  }
  const { angles, logScale } = layer
  if (angles.length !== length || (logScale !== undefined && logScale.length !== length)) {
    throw new RangeError(`the layer has ${angles.length} pairs, but the table ${length}`)
  }
  for (let i = 0; i < length; i++) {
    const angle = angles[i]!
    const r = logScale === undefined ? 1 : Math.exp(clampLogScale(logScale[i]!))
    cos[offset + i] = r * Math.cos(angle)
    // sin(-0) is -0; adding +0 keeps an untouched pair bit-equal to the identity slot.
    sin[offset + i] = r * Math.sin(angle) + 0
  }
}

function weightedSum(
  geometry: Geometry,
  terms: readonly RotationTerm[],
  layer: number,
  pick: (values: LayerRotation) => Float32Array | undefined,
): Float32Array {
  const sum = new Float64Array(pairsPerLayer(geometry))
  for (const { rotation, weight } of terms) {
    const layerRotation = rotation.layers.get(layer)
    const values = layerRotation && pick(layerRotation)
    if (values === undefined) continue
    if (values.length !== sum.length) {
      throw new RangeError(`layer ${layer} has ${values.length} pairs, not ${sum.length}`)
    }
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * values[i]!
  }
  return new Float32Array(sum)
}

const hasNonzero = (values: Float32Array): boolean => values.some((value) => value !== 0)

const clampLogScale = (value: number): number =>
  Math.min(MAX_APPLIED_LOG_SCALE, Math.max(-MAX_APPLIED_LOG_SCALE, value))
