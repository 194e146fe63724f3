import type { Geometry, Rotation } from '../rotation/rotation.ts'

/** One trial and its value, as a job stores it. */
export type Observation = {
  /** The trial's number within the job, from 0, in the order in which they were asked. */
  readonly index: number
  readonly z: readonly number[]
  /** Higher is better; null for a failed trial. A value that is not finite counts as failed. */
  readonly value: number | null
}

/**
 * A search over rotations, each described by a vector z. An optimiser has no state: after a crash, a
 * job passes the same history to a new optimiser and gets the same candidates.
 */
export type Optimiser = {
  /** Length of z. */
  readonly dimension: number
  /**
   * The candidates of the next round, or [] after `numTrials` trials. Pure: equal histories give equal
   * candidates. If the history has part of a round, `ask` returns the rest of it. Failed trials count
   * as trials and are not repeated, but the model ignores them.
   * @param history all trials so far, in any order
   * @returns one z per candidate
   * @throws {RangeError} a z has another length
   */
  readonly ask: (history: readonly Observation[]) => number[][]
  /**
   * The rotation that z describes; the first candidate describes the identity.
   * @throws {RangeError} `ask` cannot have returned this z
   */
  readonly toRotation: (z: readonly number[]) => Rotation
  /** The trial with the highest value, on a tie the earliest; null if none succeeded. */
  readonly best: (history: readonly Observation[]) => Observation | null
}

/** The settings that every optimiser takes. */
export type SearchSpec = {
  readonly geometry: Geometry
  /** A safe integer; another seed gives another search. */
  readonly seed: number
  /** Total number of trials, including failed ones. */
  readonly numTrials: number
}

export type BoSpec = SearchSpec & {
  /**
   * Vectors that span the searched subspace, each over the angles of `firstSearchedLayer` and all layers
   * after it. By default the subspace is random.
   */
  readonly directions?: readonly Float32Array[] | null
}
