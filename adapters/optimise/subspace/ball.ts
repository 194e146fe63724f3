/** Moves a point outside the ball onto its surface, in place. */
export function projectToBall<T extends Float64Array | number[]>(point: T, radius: number): T {
  let squared = 0
  for (const value of point) squared += value * value
  if (squared > radius * radius) {
    const factor = radius / Math.sqrt(squared)
    for (let k = 0; k < point.length; k++) point[k]! *= factor
  }
  return point
}
