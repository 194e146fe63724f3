/** Points with equal dimension in one array, [count, dimension] row-major. */
export type Points = {
  readonly coordinates: Float64Array
  readonly count: number
  readonly dimension: number
}

/** @throws {RangeError} a point has another length */
export function packPoints(points: readonly (readonly number[])[], dimension: number): Points {
  const coordinates = new Float64Array(points.length * dimension)
  points.forEach((point, i) => {
    if (point.length !== dimension) {
      throw new RangeError(`a point has ${point.length} coordinates, not ${dimension}`)
    }
    coordinates.set(point, i * dimension)
  })
  return { coordinates, count: points.length, dimension }
}

/** Writes the squared distances from `point` to all points into `out`, [count]. */
export function squaredDistances(
  { coordinates, count, dimension }: Points,
  point: Float64Array,
  out: Float64Array,
): void {
  for (let i = 0, at = 0; i < count; i++) {
    let sum = 0
    for (let k = 0; k < dimension; k++, at++) {
      const difference = coordinates[at]! - point[k]!
      sum += difference * difference
    }
    out[i] = sum
  }
}
