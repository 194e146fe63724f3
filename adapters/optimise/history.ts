import type { Observation } from './optimiser.ts'

/** A trial with a finite value. */
export type Success = Observation & { readonly value: number }

export const isSuccess = (observation: Observation): observation is Success =>
  observation.value !== null && Number.isFinite(observation.value)

/** The trials in the order in which they were asked. */
export const inOrder = (history: readonly Observation[]): Observation[] =>
  [...history].sort((a, b) => a.index - b.index)

/** The trial with the highest value, on a tie the earliest; null if none succeeded. */
export function bestOf(history: readonly Observation[]): Success | null {
  let best: Success | null = null
  for (const observation of inOrder(history)) {
    if (isSuccess(observation) && (best === null || observation.value > best.value)) {
      best = observation
    }
  }
  return best
}
