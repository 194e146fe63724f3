export type AdamOptions = {
  readonly learningRate: number
  /** Each step also moves values toward zero by learningRate · decay of their size; 0 for plain Adam. */
  readonly decay: number
}

/** Adam's usual constants. */
const BETA_1 = 0.9
const BETA_2 = 0.999
const EPSILON = 1e-8

/** Parameters, and the moving averages of their gradient and its square; all have one length. */
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
 * One step of Adam. With decay, values also shrink toward zero, which for angles and log scales is the
 * identity. The decay does not enter the moments.
 * @param numSteps number of steps before this one
 * @throws {RangeError} the gradient has another length
 * Source: Kingma and Ba 2015, arXiv:1412.6980; decay as in Loshchilov and Hutter, arXiv:1711.05101
 */
export function stepAdam(
  { values, mean, square }: AdamState,
  gradient: Float32Array,
  numSteps: number,
  { learningRate, decay }: AdamOptions,
): AdamState {
  if (gradient.length !== values.length) {
    throw new RangeError(`the gradient has ${gradient.length} values, not ${values.length}`)
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
