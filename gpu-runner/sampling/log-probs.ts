/** A token id and the natural log of its probability. */
export type RankedToken = { readonly id: number; readonly logprob: number }

/**
 * Log of the softmax's denominator, in float64. A logit minus it is the log probability.
 * @param logits [vocab], finite
 */
export function logNormaliser(logits: Float32Array): number {
  let top = -Infinity
  for (const logit of logits) if (logit > top) top = logit
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - top)
  return top + Math.log(sum)
}

/**
 * The likeliest tokens in one pass over the logits.
 * @param normaliser {@link logNormaliser} of the same logits
 * @returns at most `count` tokens, the likeliest first, equal ones by id
 */
export function topLogprobs(
  logits: Float32Array,
  count: number,
  normaliser: number,
): readonly RankedToken[] {
  if (count === 0) return []
  const ids: number[] = []
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!
    if (ids.length === count && logit <= logits[ids[count - 1]!]!) continue
    if (ids.length === count) ids.pop()
    let at = ids.length
    while (at > 0 && logits[ids[at - 1]!]! < logit) at--
    ids.splice(at, 0, id)
  }
  return ids.map((id) => ({ id, logprob: logits[id]! - normaliser }))
}
