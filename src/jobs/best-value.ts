import type { Trial } from './job-spec.ts'

/** The highest value of all trials that did not fail; null if there is none. */
export const bestValue = (trials: readonly Trial[]): number | null =>
  trials.reduce<number | null>(
    (best, { value }) => (value !== null && (best === null || value > best) ? value : best),
    null,
  )
