/** How the base model and the adapter that was found do on the job's examples. */
export type Measured<Evaluation> = {
  /** In the unit of the job's trials, as `adapterValue`. */
  readonly baseValue: number
  readonly adapterValue: number
  /** For each training example, the result of the fold that left it out minus the base model's. */
  readonly differences: readonly number[]
  readonly train: Evaluation
  readonly outOfFold: Evaluation
  readonly validation: Evaluation | null
}
