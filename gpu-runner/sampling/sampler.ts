export type SamplerOptions = {
  /** 0 is greedy. */
  readonly temperature: number
  /** Keep the most likely tokens whose probabilities first reach this sum. */
  readonly topP: number
  /** Keep this many of the most likely tokens, of equals the first; absent is all. */
  readonly topK?: number
  /** Keep tokens of at least this share of the largest probability; absent is all. */
  readonly minP?: number
}

/**
 * Below this share of the largest probability a token is never drawn: together such tokens weigh less
 * than the vocabulary times this.
 */
const NEGLIGIBLE_PROBABILITY = 1e-9
/** Far more than rounding, so that what is close is decided by its weight alone. */
const FAR_BELOW_SLACK = 1e-3
/** Shares of the largest probability; nothing kept is as small as the last. */
const SORTED_FROM: readonly number[] = [1e-2, 1e-4, 1e-6, 0]

/** @returns index of the largest value, the first of equals */
export function argmax(values: Float32Array | readonly number[]): number {
  // Looking the index up afterwards takes two thirds of the time of keeping it along.
  let largest = -Infinity
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!
  return Math.max(0, values.indexOf(largest))
}

/**
 * Draws an index: temperature, then min_p, top_k and top_p, each over what the one before has left
 * (top_p's sum is of the probabilities renormalised by then), as in vLLM.
 * @param logits unnormalised log probabilities; unchanged
 * @param random uniform in [0, 1), drawn once where temperature > 0
 */
export function sample(
  logits: Float32Array | readonly number[],
  options: SamplerOptions,
  random: () => number,
): number {
  const best = argmax(logits)
  if (options.temperature === 0) return best
  const top = logits[best]!
  // A weight is a share of the largest probability, so min_p is a bound on it.
  const least = Math.max(NEGLIGIBLE_PROBABILITY, options.minP ?? 0)
  // Most of a vocabulary is far below, and comparing costs a tenth of what an exponential does.
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

/** Of one draw at a time; kept, since a vocabulary of weights is 400 KB. */
let scratch = new Float64Array(0)
function scratchOf(length: number): Float64Array {
  if (scratch.length < length) scratch = new Float64Array(length)
  return scratch.subarray(0, length)
}

/**
 * What top_k and then top_p leave, likeliest first. Sorting a vocabulary costs many times a decode
 * step's share, so only weights above a bound are sorted, and the bound falls where they are too few.
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
    // Short of enough, more may lie below the bound.
    if (sum < enough && !hasTopK && !isAll) continue
    indices.length = count
    return { indices, total: sum }
  }
  throw new RangeError('no weight is above zero')
}
