export type SamplerOptions = {
  /** 0 is greedy. */
  readonly temperature: number
  /** Keep the most likely tokens whose probabilities first reach this sum. */
  readonly topP: number
  /** Keep this many of the most likely tokens, of equal ones the first; all by default. */
  readonly topK?: number
  /** Keep tokens with at least this fraction of the largest probability; all by default. */
  readonly minP?: number
}

/**
 * Tokens below this fraction of the largest probability are never drawn. All of them together weigh less
 * than this times the size of the vocabulary.
 */
const NEGLIGIBLE_PROBABILITY = 1e-9
/** Far more than rounding errors, so that a close case is decided by the token's weight itself. */
const FAR_BELOW_SLACK = 1e-3
/**
 * Fractions of the largest probability, tried in turn; no token that is kept is as small as the last.
 */
const SORTED_FROM: readonly number[] = [1e-2, 1e-4, 1e-6, 0]

/** @returns index of the largest value, of equal ones the first */
export function argmax(values: Float32Array | readonly number[]): number {
  // Looking up the index afterwards takes two thirds of the time of tracking it in the loop.
  let largest = -Infinity
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!
  return Math.max(0, values.indexOf(largest))
}

/**
 * Draws an index, as vLLM does: temperature, then min_p, top_k and top_p, each applied to the tokens
 * that the one before has left. For top_p their probabilities are normalised again.
 * @param logits unnormalised log probabilities; unchanged
 * @param random uniform in [0, 1); called once where temperature > 0
 */
export function sample(
  logits: Float32Array | readonly number[],
  options: SamplerOptions,
  random: () => number,
): number {
  const best = argmax(logits)
  if (options.temperature === 0) return best
  const top = logits[best]!
  // A weight is a fraction of the largest probability, so min_p is its lower bound.
  const least = Math.max(NEGLIGIBLE_PROBABILITY, options.minP ?? 0)
  // Most tokens are far below the bound, and a comparison costs a tenth of an exponential.
  const farBelow = top + options.temperature * Math.log(least) - FAR_BELOW_SLACK
  const weights = scratchOf(logits.length)
  let total = 0
  let numKept = 0
  let last = best
  for (let index = 0; index < logits.length; index++) {
    weights[index] = 0
    if (logits[index]! < farBelow) continue
    const weight = Math.exp((logits[index]! - top) / options.temperature)
    if (weight < least) continue
    weights[index] = weight
    total += weight
    numKept += 1
    last = index
  }
  const topK = options.topK ?? Infinity
  if (options.topP >= 1 && topK >= numKept) {
    let left = random() * total
    for (let index = 0; index <= last; index++) {
      left -= weights[index]!
      if (left < 0 && weights[index]! > 0) return index
    }
    return last
  }
  const head = likeliest(weights, { total, numKept, topK, topP: options.topP })
  let left = random() * head.total
  for (const index of head.indices) {
    left -= weights[index]!
    if (left < 0) return index
  }
  return head.indices[head.indices.length - 1]!
}

/** Used by one draw at a time, and kept since a vocabulary of weights takes 400 KB. */
let scratch = new Float64Array(0)
function scratchOf(length: number): Float64Array {
  if (scratch.length < length) scratch = new Float64Array(length)
  return scratch.subarray(0, length)
}

/**
 * The tokens that top_k and then top_p leave, the likeliest first. Sorting a whole vocabulary would
 * take too much of a decode step, so only weights above a bound are sorted, and the bound is lowered
 * if they are too few.
 */
function likeliest(
  weights: Float64Array,
  kept: {
    readonly total: number
    readonly numKept: number
    readonly topK: number
    readonly topP: number
  },
): { readonly indices: readonly number[]; readonly total: number } {
  const hasTopK = kept.topK < kept.numKept
  for (const bound of SORTED_FROM) {
    const indices: number[] = []
    for (let index = 0; index < weights.length; index++) {
      if (weights[index]! > bound) indices.push(index)
    }
    const isAll = indices.length === kept.numKept
    if (hasTopK && indices.length < kept.topK) continue
    indices.sort((x, y) => weights[y]! - weights[x]! || x - y)
    let { total } = kept
    if (hasTopK) {
      indices.length = kept.topK
      total = indices.reduce((sum, index) => sum + weights[index]!, 0)
    }
    if (kept.topP >= 1) return { indices, total }
    const enough = kept.topP * total
    let sum = 0
    let count = 0
    while (count < indices.length && sum < enough) sum += weights[indices[count++]!]!
    // There are too few, and more may lie below the bound.
    if (sum < enough && !hasTopK && !isAll) continue
    indices.length = count
    return { indices, total: sum }
  }
  throw new RangeError('no weight is above zero')
}
