/** Values with mean 0 and standard deviation 1, and the mean and deviation that restore them. */
export type Standardized = {
  readonly values: Float64Array
  readonly mean: number
  readonly deviation: number
}

/** Equal values are only shifted, because they have no scale. */
const SMALLEST_DEVIATION = 1e-12

export function standardize(values: readonly number[]): Standardized {
  const count = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / count
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count
  const spread = Math.sqrt(variance)
  const deviation = spread > SMALLEST_DEVIATION ? spread : 1
  return {
    values: Float64Array.from(values, (value) => (value - mean) / deviation),
    mean,
    deviation,
  }
}
