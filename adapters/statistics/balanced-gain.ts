import { studentTQuantile } from './student-t.ts'

export type BalancedGain = {
  /** Balanced accuracy of the answers less that of the reference. */
  readonly gain: number
  /** 95% interval of `gain` by Student's t; null if no class has two examples. */
  readonly interval: readonly [number, number] | null
}

/**
 * Difference in balanced accuracy between two sets of answers to the same examples.
 * @param predicted answers, [examples]
 * @param reference answers to compare with, [examples]
 * @param gold right label of each example, [examples]
 * @throws {RangeError} no examples, or the lengths differ
 */
export function balancedGain(
  predicted: readonly number[],
  reference: readonly number[],
  gold: readonly number[],
): BalancedGain {
  if (gold.length === 0) throw new RangeError('no examples')
  if (predicted.length !== gold.length || reference.length !== gold.length) {
    throw new RangeError(
      `${predicted.length} and ${reference.length} answers for ${gold.length} labels`,
    )
  }
  const byClass = new Map<number, number[]>()
  gold.forEach((label, i) => {
    const difference = Number(predicted[i] === label) - Number(reference[i] === label)
    byClass.set(label, [...(byClass.get(label) ?? []), difference])
  })
  const classes = [...byClass.values()]
  const meanOf = (values: readonly number[]) =>
    values.reduce((sum, value) => sum + value, 0) / values.length
  const gain = meanOf(classes.map(meanOf))
  // With few examples the variance of one class is too uncertain, so all classes share one variance.
  const degrees = gold.length - classes.length
  if (degrees === 0) return { gain, interval: null }
  const squares = classes.flatMap((differences) => {
    const mean = meanOf(differences)
    return differences.map((value) => (value - mean) ** 2)
  })
  const variance = squares.reduce((sum, value) => sum + value, 0) / degrees
  const inverse = classes.reduce((sum, { length }) => sum + 1 / length, 0)
  const error = Math.sqrt(variance * inverse) / classes.length
  const reach = studentTQuantile(0.975, degrees) * error
  return { gain, interval: [Math.max(-1, gain - reach), Math.min(1, gain + reach)] }
}
