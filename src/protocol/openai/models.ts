export type Model = {
  readonly id: string
  readonly object: 'model'
  /** Unix seconds. */
  readonly created: number
  readonly owned_by: string
  readonly arcana?: {
    readonly base: string
    /** A task's name, or a selection as `task@2` or `a*0.5+b`. */
    readonly task: string
    /** Of the version that the selection names; null for a task by its name, and for a sum. */
    readonly version?: number | null
    /** Null where none is live, and for a sum. */
    readonly live_version: number | null
    /** Whether an adapter that would be applied was found damaged in storage. */
    readonly is_corrupt: boolean
  }
}

export type ModelList = { readonly object: 'list'; readonly data: readonly Model[] }
