import { permutation, type Rng } from '../rng.ts'

/**
 * A Latin hypercube in [-1, 1]^d: each coordinate's range has `count` parts, and one point lies in each
 * part. With a dozen points in twenty dimensions a Sobol sequence covers the range no better, and its
 * low-order direction numbers correlate some pairs of coordinates.
 * @returns [count][dimension]
 * Source: McKay, Beckman and Conover 1979
 */
export function latinHypercube(count: number, dimension: number, rng: Rng): number[][] {
  const points = Array.from({ length: count }, () => new Array<number>(dimension).fill(0))
  for (let k = 0; k < dimension; k++) {
    permutation(count, rng).forEach((part, i) => {
      points[i]![k] = (2 * (part + rng.uniform())) / count - 1
    })
  }
  return points
}
