import { erfcx, logNormalCdf, logNormalPdf } from './normal.ts'

/** Below this u, the sum φ(u) + u·Φ(u) loses digits by cancellation. */
const DIRECT_ABOVE = -1
/** Below this u, the asymptotic series of the difference is exact to 1e-11. */
const SERIES_BELOW = -30

/**
 * ln h(u) with h(u) = φ(u) + u·Φ(u), the expected improvement for a standard normal. h underflows below
 * about u = -38; its logarithm stays finite, near -u²/2.
 * Source: Ament et al. 2023, arXiv:2310.20708, eq. 9, with the outer branch by the series of the
 * Mills ratio instead of its first term alone
 */
export function logH(u: number): number {
  if (u > DIRECT_ABOVE) {
    return Math.log(Math.exp(logNormalPdf(u)) + u * Math.exp(logNormalCdf(u)))
  }
  // h = φ(u)·(1 - |u|·√(π/2)·erfcx(|u|/√2)), and the difference tends to 1/u².
  if (u > SERIES_BELOW) {
    const ratio = -u * Math.sqrt(Math.PI / 2) * erfcx(-u / Math.SQRT2)
    return logNormalPdf(u) + Math.log1p(-ratio)
  }
  const a = 1 / (u * u)
  return logNormalPdf(u) + Math.log(a) + Math.log1p(a * (-3 + a * (15 + a * (-105 + a * 945))))
}

/**
 * Log expected improvement under a Gaussian posterior.
 * @param mean posterior mean, standardised
 * @param sigma posterior standard deviation, > 0
 * @param bestF best observation so far, standardised
 * @returns finite where plain EI underflows
 * Source: Ament et al. 2023, arXiv:2310.20708
 */
export const logExpectedImprovement = (mean: number, sigma: number, bestF: number): number =>
  logH((mean - bestF) / sigma) + Math.log(sigma)

/**
 * Partial derivatives of log expected improvement by the posterior mean and standard deviation.
 * d/dmean = Φ(u)/h(u)/σ and d/dσ = φ(u)/h(u)/σ, through their logarithms.
 */
export function logExpectedImprovementGradient(
  mean: number,
  sigma: number,
  bestF: number,
): { readonly byMean: number; readonly bySigma: number } {
  const u = (mean - bestF) / sigma
  const logHU = logH(u)
  return {
    byMean: Math.exp(logNormalCdf(u) - logHU) / sigma,
    bySigma: Math.exp(logNormalPdf(u) - logHU) / sigma,
  }
}
