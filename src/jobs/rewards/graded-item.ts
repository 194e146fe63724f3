/** An answer that is graded, with its input and its example's target. */
export type GradedItem = {
  readonly input: string
  readonly output: string
  /** Null if the example has none. */
  readonly target: string | null
}
