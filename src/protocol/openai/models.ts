export type Model = {
  readonly id: string
  readonly object: 'model'
  /** Unix seconds. */
  readonly created: number
  readonly owned_by: string
  readonly arcana?: {
    readonly base: string
    readonly task: string
    readonly live_version: number | null
    /** Whether the live version's stored adapter was found damaged. */
    readonly is_corrupt: boolean
  }
}

export type ModelList = { readonly object: 'list'; readonly data: readonly Model[] }
