/** Counts by [right label][answered label]. */
export type Confusion = readonly (readonly number[])[]

/** @param right and @param answered label indices, in the same order */
export function confusionOf(
  right: readonly number[],
  answered: readonly number[],
  numLabels: number,
): Confusion {
  const counts = Array.from({ length: numLabels }, () => new Array<number>(numLabels).fill(0))
  for (const [i, label] of right.entries()) counts[label]![answered[i]!]!++
  return counts
}

export function accuracyOf(confusion: Confusion): number {
  const total = confusion.flat().reduce((sum, count) => sum + count, 0)
  const right = confusion.reduce((sum, row, i) => sum + row[i]!, 0)
  return total === 0 ? 0 : right / total
}

/**
 * Estimates the label bias that makes all labels equally likely on average over some inputs. It
 * does not use their right labels.
 * @param logProbs [inputs][labels]
 * @returns [labels], to be added to log probabilities
 */
export function labelBias(logProbs: readonly (readonly number[])[]): number[] {
  const numLabels = logProbs[0]?.length ?? 0
  return Array.from(
    { length: numLabels },
    (_, label) => -logProbs.reduce((sum, row) => sum + row[label]!, 0) / logProbs.length,
  )
}

/** The most likely label after a bias is added. */
export function bestLabel(logProbs: readonly number[], bias: readonly number[]): number {
  const scores = logProbs.map((value, label) => value + bias[label]!)
  return scores.indexOf(Math.max(...scores))
}
