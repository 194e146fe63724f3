/** @returns the value below which the share `q` of the values lies; of an even number, the upper */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** To three digits after the point, or four significant ones. */
export const round = (value: number): number =>
  Math.abs(value) < 10 ? Math.round(value * 1000) / 1000 : Number(value.toPrecision(4))
