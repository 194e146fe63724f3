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
  const kept: { index: number; weight: number }[] = []
  let total = 0
  for (let index = 0; index < logits.length; index++) {
    const weight = Math.exp((logits[index]! - top) / options.temperature)
    if (weight < least) continue
    kept.push({ index, weight })
    total += weight
  }
  const topK = options.topK ?? Infinity
  if (options.topP < 1 || topK < kept.length) {
    kept.sort((x, y) => y.weight - x.weight || x.index - y.index)
  }
  if (topK < kept.length) {
    kept.length = topK
    total = kept.reduce((sum, { weight }) => sum + weight, 0)
  }
  if (options.topP < 1) {
    const enough = options.topP * total
    let sum = 0
    let count = 0
    while (count < kept.length && sum < enough) sum += kept[count++]!.weight
    kept.length = count
    total = sum
  }
  let left = random() * total
  for (const { index, weight } of kept) {
    left -= weight
    if (left < 0) return index
  }
  return kept[kept.length - 1]!.index
}
