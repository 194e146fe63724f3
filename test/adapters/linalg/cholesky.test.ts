import fc from 'fast-check'
import { describe, it } from 'vitest'
import {
  cholesky,
  choleskyWithJitter,
  logDeterminant,
  solveLower,
  solveLowerTransposed,
} from '../../../adapters/linalg/cholesky.ts'

/** A·Aᵀ + I of a random A, which is well conditioned enough for eight digits. */
const systems = fc.integer({ min: 1, max: 8 }).chain((n) =>
  fc.record({
    n: fc.constant(n),
    a: fc.array(fc.double({ min: -2, max: 2, noNaN: true }), {
      minLength: n * n,
      maxLength: n * n,
    }),
    b: fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: n, maxLength: n }),
  }),
)

function gram(a: readonly number[], n: number): Float64Array {
  const matrix = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = i === j ? 1 : 0
      for (let k = 0; k < n; k++) sum += a[i * n + k]! * a[j * n + k]!
      matrix[i * n + j] = sum
    }
  }
  return matrix
}

describe('cholesky', () => {
  it('agrees with a factor computed by hand', ({ expect }) => {
    const matrix = Float64Array.of(4, 12, -16, 12, 37, -43, -16, -43, 98)
    const factor = cholesky(matrix, 3)!
    expect([...factor]).toEqual([2, 0, 0, 6, 1, 0, -8, 5, 3])
    expect(logDeterminant(factor, 3)).toBeCloseTo(Math.log(36), 12)
  })

  it('solves the system that it factors', ({ expect }) => {
    fc.assert(
      fc.property(systems, ({ n, a, b }) => {
        const matrix = gram(a, n)
        const factor = cholesky(matrix, n)!
        const x = Float64Array.from(b)
        solveLower(factor, n, x)
        solveLowerTransposed(factor, n, x)
        for (let i = 0; i < n; i++) {
          let sum = 0
          for (let k = 0; k < n; k++) sum += matrix[i * n + k]! * x[k]!
          expect(sum).toBeCloseTo(b[i]!, 8)
        }
      }),
    )
  })

  it('refuses a matrix that is not positive definite', ({ expect }) => {
    expect(cholesky(Float64Array.of(1, 2, 2, 1), 2)).toBeNull()
    expect(cholesky(Float64Array.of(NaN), 1)).toBeNull()
  })

  it('adds the least jitter that makes a singular matrix positive definite', ({ expect }) => {
    expect(choleskyWithJitter(Float64Array.of(2), 1)!.jitter).toBe(0)
    const singular = choleskyWithJitter(Float64Array.of(1, 1, 1, 1), 2)!
    expect(singular.jitter).toBeGreaterThan(0)
    expect(singular.jitter).toBeLessThanOrEqual(1e-9)
    expect(choleskyWithJitter(Float64Array.of(1, 2, 2, 1), 2)).toBeNull()
    expect(choleskyWithJitter(Float64Array.of(NaN), 1)).toBeNull()
  })
})
