import { permutation, type Rng } from '../rng.ts'

/**
 * A Latin hypercube in [-1, 1]^d: each coordinate's range is cut into `count` parts and every part
 * is used once. For a dozen points in twenty dimensions a Sobol sequence offers the same and no
 * more, and its shared low-order direction numbers make some pairs of coordinates move together.
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
