/** Lanczos' coefficients for g = 7, n = 9: ln Γ to 15 digits. */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
  -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
  1.5056327351493116e-7,
]
/** Terms of the continued fraction; for the arguments of a t test it converges in far fewer. */
const MAX_TERMS = 500
const TINY = 1e-300
const PRECISION = 1e-15
/** Halvings of a quantile's bracket; more than the digits of a double need. */
const MAX_HALVINGS = 200

/**
 * The distribution function of Student's t.
 * @param degrees degrees of freedom, > 0
 * @throws {RangeError} degrees not above 0
 */
export function studentTCdf(t: number, degrees: number): number {
  if (!(degrees > 0)) throw new RangeError(`${degrees} degrees of freedom, which must be above 0`)
  const tail = incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
  return t > 0 ? 1 - tail : tail
}

/**
 * The quantile of Student's t: the value below which a share of the distribution lies.
 * @param share in (0, 1)
 * @throws {RangeError} a share outside (0, 1), or degrees not above 0
 */
export function studentTQuantile(share: number, degrees: number): number {
  if (!(share > 0 && share < 1)) throw new RangeError(`the share ${share} is not in (0, 1)`)
  if (share < 0.5) return -studentTQuantile(1 - share, degrees)
  let low = 0
  let high = 1
  while (studentTCdf(high, degrees) < share && high < 1e150) high *= 2
  for (let i = 0; i < MAX_HALVINGS && high - low > PRECISION * high; i++) {
    const middle = (low + high) / 2
    if (studentTCdf(middle, degrees) < share) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/**
 * Regularised incomplete beta function I_x(a, b) by its continued fraction.
 * Source: Lentz's method as in DLMF 8.17.22
 */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0
  if (x >= 1) return 1
  // The fraction converges fast only for small x; symmetry gives the rest.
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a)
  const front = Math.exp(
    logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x),
  )
  const guarded = (value: number): number => (Math.abs(value) < TINY ? TINY : value)
  let c = 1
  let d = 1 / guarded(1 - ((a + b) * x) / (a + 1))
  let fraction = d
  for (let m = 1; m <= MAX_TERMS; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / guarded(1 + even * d)
    c = guarded(1 + even / c)
    fraction *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / guarded(1 + odd * d)
    c = guarded(1 + odd / c)
    const change = d * c
    fraction *= change
    if (Math.abs(change - 1) < PRECISION) break
  }
  return (front * fraction) / a
}

/** ln Γ(x) for x > 0. Source: Lanczos 1964 */
function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const z = x - 1
  const base = z + 7.5
  const sum = LANCZOS.reduce((total, value, i) => (i === 0 ? value : total + value / (z + i)), 0)
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(base) - base + Math.log(sum)
}
