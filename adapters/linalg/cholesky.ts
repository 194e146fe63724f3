/*
 * Dense symmetric positive definite systems of a few hundred rows. Matrices are row-major
 * Float64Array [n, n]; inner loops run along rows, which are contiguous.
 */

/** First jitter, relative to the mean diagonal: about n times the rounding error of float64. */
const FIRST_JITTER = 1e-10
const JITTER_GROWTH = 10
/** The last jitter is 1e-3 of the diagonal; a larger one would solve a different matrix. */
const MAX_JITTER_STEPS = 8

/**
 * Cholesky factor of a symmetric matrix.
 * @param matrix [n, n]; only the lower triangle is read
 * @returns lower triangular L with L·Lᵀ = matrix, zeros above; null if the matrix is not positive
 * definite
 */
export function cholesky(matrix: Float64Array, n: number): Float64Array | null {
  const factor = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    const rowI = i * n
    for (let j = 0; j <= i; j++) {
      const rowJ = j * n
      let sum = matrix[rowI + j]!
      for (let k = 0; k < j; k++) sum -= factor[rowI + k]! * factor[rowJ + k]!
      if (j < i) {
        factor[rowI + j] = sum / factor[rowJ + j]!
      } else {
        // Negated, so that NaN is caught too.
        if (!(sum > 0)) return null
        factor[rowI + i] = Math.sqrt(sum)
      }
    }
  }
  return factor
}

/**
 * Cholesky factor of matrix + jitter·I. Tries a jitter of zero, then jitters that grow tenfold, until
 * the sum is positive definite.
 * @returns null if no jitter works, for example because a value is NaN
 */
export function choleskyWithJitter(
  matrix: Float64Array,
  n: number,
): { readonly factor: Float64Array; readonly jitter: number } | null {
  const exact = cholesky(matrix, n)
  if (exact !== null) return { factor: exact, jitter: 0 }
  let trace = 0
  for (let i = 0; i < n; i++) trace += matrix[i * n + i]!
  let jitter = (FIRST_JITTER * trace) / n
  for (let step = 0; step < MAX_JITTER_STEPS; step++, jitter *= JITTER_GROWTH) {
    const shifted = matrix.slice()
    for (let i = 0; i < n; i++) shifted[i * n + i]! += jitter
    const factor = cholesky(shifted, n)
    if (factor !== null) return { factor, jitter }
  }
  return null
}

/**
 * Solves L·x = b in place.
 * @param factor L, lower triangular [n, n]
 * @param b [n]; becomes x
 */
export function solveLower(factor: Float64Array, n: number, b: Float64Array): void {
  for (let i = 0; i < n; i++) {
    const row = i * n
    let sum = b[i]!
    for (let k = 0; k < i; k++) sum -= factor[row + k]! * b[k]!
    b[i] = sum / factor[row + i]!
  }
}

/**
 * Solves Lᵀ·x = b in place.
 * @param factor L, lower triangular [n, n]
 * @param b [n]; becomes x
 */
export function solveLowerTransposed(factor: Float64Array, n: number, b: Float64Array): void {
  for (let i = n - 1; i >= 0; i--) {
    const row = i * n
    const x = b[i]! / factor[row + i]!
    b[i] = x
    for (let k = 0; k < i; k++) b[k]! -= factor[row + k]! * x
  }
}

/** ln det(L·Lᵀ). @param factor L, lower triangular [n, n] */
export function logDeterminant(factor: Float64Array, n: number): number {
  let sum = 0
  for (let i = 0; i < n; i++) sum += Math.log(factor[i * n + i]!)
  return 2 * sum
}
