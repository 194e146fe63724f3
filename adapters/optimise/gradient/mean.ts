/**
 * The mean of the folds' candidates, scaled to their mean norm. Where the candidates differ they cancel,
 * so the plain mean is shorter and its answers are less sure than theirs.
 * @param candidates [candidates][values]
 */
export function meanCandidate(candidates: readonly Float32Array[]): Float32Array {
  const sum = new Float64Array(candidates[0]?.length ?? 0)
  let length = 0
  for (const own of candidates) {
    length += norm(own)
    for (let i = 0; i < sum.length; i++) sum[i]! += own[i]!
  }
  const sumLength = norm(sum)
  const share = sumLength > 0 ? length / candidates.length / sumLength : 0
  return Float32Array.from(sum, (value) => value * share)
}

const norm = (values: Float32Array | Float64Array): number => {
  let total = 0
  for (const value of values) total += value * value
  return Math.sqrt(total)
}
