/** What was measured of the base model and of what was found, in the unit of the job's value. */
export type Measured<Evaluation> = {
  readonly baseValue: number
  readonly adapterValue: number
  /** Of each training example, what was learnt without it less the base model. */
  readonly differences: readonly number[]
  readonly train: Evaluation
  readonly outOfFold: Evaluation
  readonly validation: Evaluation | null
}
