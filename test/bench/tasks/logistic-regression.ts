/** Half the squared weights count 1/C against the summed loss, as in scikit-learn. */
export type LogisticOptions = { readonly numLabels: number; readonly c: number }

const MAX_STEPS = 20_000
/** Largest slope of the objective, nats a unit of weight, at which the minimum counts as found. */
const TOLERANCE = 1e-6
const POWER_ITERATIONS = 30
/** What the power iteration may have missed of the largest eigenvalue. */
const CURVATURE_MARGIN = 1.2

/**
 * Multinomial logistic regression with an L2 penalty on features standardised by the training rows.
 * It is the baseline that leaves the model as it is. The intercepts are free.
 * @param train features, [examples][features]
 * @param gold right label of each
 * @param rows features of what is to be answered, [rows][features]
 * @returns log probabilities, [rows][labels]
 * @throws {Error} the minimum was not reached
 * Source: accelerated gradient with restarts, O'Donoghue & Candès 2015, arXiv:1204.3982
 */
export function logisticRegression(
  train: readonly ArrayLike<number>[],
  gold: readonly number[],
  rows: readonly ArrayLike<number>[],
  options: LogisticOptions,
): number[][] {
  const standardise = standardiserOf(train)
  const weights = fit(train.map(standardise), gold, options)
  return rows.map((row) => predict(weights, standardise(row)))
}

/** Standardised features and a 1 for the intercept; a feature that never varies is 0. */
function standardiserOf(
  train: readonly ArrayLike<number>[],
): (row: ArrayLike<number>) => Float64Array {
  const size = train[0]!.length
  const mean = new Float64Array(size)
  const deviation = new Float64Array(size)
  for (let k = 0; k < size; k++) {
    for (const row of train) mean[k]! += row[k]! / train.length
    for (const row of train) deviation[k]! += (row[k]! - mean[k]!) ** 2 / train.length
    deviation[k] = Math.sqrt(deviation[k]!) || 1
  }
  return (row) => {
    const features = new Float64Array(size + 1).fill(1)
    for (let k = 0; k < size; k++) features[k] = (row[k]! - mean[k]!) / deviation[k]!
    return features
  }
}

function fit(
  features: readonly Float64Array[],
  gold: readonly number[],
  { numLabels, c }: LogisticOptions,
): Float64Array[] {
  const size = features[0]!.length
  const zeros = (): Float64Array[] =>
    Array.from({ length: numLabels }, () => new Float64Array(size))
  // The Hessian of log softmax is at most half the identity.
  const step = 1 / ((CURVATURE_MARGIN * largestEigenvalue(features)) / 2 + 1 / c)
  let weights = zeros()
  let ahead = zeros()
  let momentum = 1
  for (let i = 0; i < MAX_STEPS; i++) {
    const slopes = slopesAt(ahead, features, gold, c)
    const steepest = Math.max(
      ...slopes.map((own) => own.reduce((m, s) => Math.max(m, Math.abs(s)), 0)),
    )
    if (steepest < TOLERANCE) return ahead
    const next = ahead.map((own, label) => own.map((w, k) => w - step * slopes[label]![k]!))
    // Restarts the momentum if it points uphill.
    let uphill = 0
    next.forEach((own, label) => {
      own.forEach((w, k) => (uphill += slopes[label]![k]! * (w - weights[label]![k]!)))
    })
    const after = uphill > 0 ? 1 : (1 + Math.sqrt(1 + 4 * momentum ** 2)) / 2
    const share = uphill > 0 ? 0 : (momentum - 1) / after
    ahead = next.map((own, label) => own.map((w, k) => w + share * (w - weights[label]![k]!)))
    weights = next
    momentum = after
  }
  throw new Error(`logistic regression: no minimum after ${MAX_STEPS} steps`)
}

/** Of the summed loss and the penalty, [labels][features]. */
function slopesAt(
  weights: readonly Float64Array[],
  features: readonly Float64Array[],
  gold: readonly number[],
  c: number,
): Float64Array[] {
  const slopes = weights.map((own) => {
    const slope = own.map((weight) => weight / c)
    slope[slope.length - 1] = 0
    return slope
  })
  features.forEach((row, i) => {
    predict(weights, row).forEach((logProb, label) => {
      const excess = Math.exp(logProb) - (gold[i] === label ? 1 : 0)
      const slope = slopes[label]!
      for (let k = 0; k < row.length; k++) slope[k]! += excess * row[k]!
    })
  })
  return slopes
}

/** Of the features' matrix times its transpose, by power iteration. */
function largestEigenvalue(features: readonly Float64Array[]): number {
  const gram = features.map((a) => features.map((b) => dot(a, b)))
  let vector = Float64Array.from(features, (_, i) => 1 + i / features.length)
  let norm = 0
  for (let i = 0; i < POWER_ITERATIONS; i++) {
    const image = Float64Array.from(gram, (row) => dot(row, vector))
    norm = Math.sqrt(dot(image, image))
    vector = image.map((value) => value / norm)
  }
  return norm
}

/** @returns log probabilities, [labels] */
function predict(weights: readonly Float64Array[], features: Float64Array): number[] {
  const scores = weights.map((own) => dot(own, features))
  const largest = Math.max(...scores)
  const logSum = largest + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - largest), 0))
  return scores.map((value) => value - logSum)
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let k = 0; k < a.length; k++) sum += a[k]! * b[k]!
  return sum
}
