import type { Geometry, Rotation } from '../rotation/rotation.ts'

/** One trial's outcome as a job keeps it. */
export type Observation = {
  /** The trial's number within the job, from 0, in the order of asking. */
  readonly index: number
  readonly z: readonly number[]
  /** Higher is better; null is a trial that failed. A value that is not finite counts as failed. */
  readonly value: number | null
}

/**
 * A search over rotations by a small vector z. It holds no state: a job that lost its process gives
 * the same history to a new optimiser and gets the same answer.
 */
export type Optimiser = {
  /** Length of z. */
  readonly dimension: number
  /**
   * The next round's candidates, or [] when `numTrials` are told or asked. Pure: equal histories
   * give equal answers. Where part of a round is told, the rest of it is asked again. Failed trials
   * count, are not asked again and teach nothing.
   * @param history all trials told so far, in any order
   * @throws {RangeError} a z of another length
   */
  readonly ask: (history: readonly Observation[]) => number[][]
  /**
   * The rotation that z stands for; the first candidate's is the identity.
   * @throws {RangeError} a z that `ask` cannot have given
   */
  readonly toRotation: (z: readonly number[]) => Rotation
  /** The trial of the highest value, the earliest of equals; null where none succeeded. */
  readonly best: (history: readonly Observation[]) => Observation | null
}

/** What every optimiser is told of its job. */
export type SearchSpec = {
  readonly geometry: Geometry
  /** A safe integer; another seed is another search. */
  readonly seed: number
  /** Trials in all, failed ones included. */
  readonly numTrials: number
}

export type BoSpec = SearchSpec & {
  /**
   * What spans the subspace, each over the angles of `firstSearchedLayer` and all layers after it;
   * null or absent is a random subspace.
   */
  readonly directions?: readonly Float32Array[] | null
}
