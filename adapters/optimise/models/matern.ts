const SQRT5 = Math.sqrt(5)

/**
 * Matérn 5/2 correlation of two points: (1 + √5·s + 5/3·s²)·e^(-√5·s), s = distance / lengthScale.
 * Its paths are twice differentiable; it is the usual choice for Bayesian optimisation.
 * Source: Snoek et al. 2012
 */
export function matern52(squaredDistance: number, lengthScale: number): number {
  const t = (SQRT5 * Math.sqrt(squaredDistance)) / lengthScale
  return (1 + t + (t * t) / 3) * Math.exp(-t)
}

/** The factor f in the gradient of `matern52` by the first point: ∇ₓ k(x, y) = f·(x - y). */
export function matern52Slope(squaredDistance: number, lengthScale: number): number {
  const t = (SQRT5 * Math.sqrt(squaredDistance)) / lengthScale
  return ((-5 / 3) * (1 + t) * Math.exp(-t)) / (lengthScale * lengthScale)
}
