export type AdamOptions = {
  readonly learningRate: number
  /** Share of the distance to zero walked in each step, times the learning rate; 0 is plain Adam. */
  readonly decay: number
}

/** The usual averages of the gradient and of its square, and what keeps the quotient finite. */
const BETA_1 = 0.9
const BETA_2 = 0.999
const EPSILON = 1e-8

/** Parameters and Adam's moments, all of one length. */
export type AdamState = {
  readonly values: Float32Array
  readonly mean: Float32Array
  readonly square: Float32Array
}

export const startAdam = (length: number): AdamState => ({
  values: new Float32Array(length),
  mean: new Float32Array(length),
  square: new Float32Array(length),
})

/**
 * One step downhill. With decay, values also shrink toward zero, which for angles and log scales is
 * the identity; the decay does not pass through the moments.
 * @param numSteps steps taken before this one
 * @throws {RangeError} a gradient of another length
 * Source: Kingma and Ba 2015, arXiv:1412.6980; decay as in Loshchilov and Hutter, arXiv:1711.05101
 */
export function stepAdam(
  { values, mean, square }: AdamState,
  gradient: Float32Array,
  numSteps: number,
  { learningRate, decay }: AdamOptions,
): AdamState {
  if (gradient.length !== values.length) {
    throw new RangeError(`a gradient of ${gradient.length} for ${values.length} values`)
  }
  const next = startAdam(values.length)
  const meanShare = 1 - BETA_1 ** (numSteps + 1)
  const squareShare = 1 - BETA_2 ** (numSteps + 1)
  for (let i = 0; i < values.length; i++) {
    const g = gradient[i]!
    next.mean[i] = BETA_1 * mean[i]! + (1 - BETA_1) * g
    next.square[i] = BETA_2 * square[i]! + (1 - BETA_2) * g * g
    const size = Math.sqrt(next.square[i]! / squareShare) + EPSILON
    const direction = next.mean[i]! / meanShare / size
    next.values[i] = values[i]! - learningRate * (direction + decay * values[i]!)
  }
  return next
}
