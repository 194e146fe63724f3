/** An answer and what it answers. */
export type GradedItem = {
  readonly input: string
  readonly output: string
  /** Null where the example has none. */
  readonly target: string | null
}
