import { pageQuerySchema, type Page } from './files.ts'

/** A client that knows of no pages sees this many. */
const MAX_PAGE = 1000
export const modelPageSchema = pageQuerySchema(MAX_PAGE, MAX_PAGE)

export type Model = {
  readonly id: string
  readonly object: 'model'
  /** Unix seconds. */
  readonly created: number
  readonly owned_by: string
  readonly arcana?: {
    readonly base: string
    /** A task's name, or a selection such as `task@2` or `a*0.5+b`. */
    readonly task: string
    /**
     * The version that the selection names; null for a sum. A task by its name has no such field.
     */
    readonly version?: number | null
    /** Null where no version is live, and for a sum. */
    readonly live_version: number | null
    /** Whether one of its adapters was found damaged in storage. */
    readonly is_corrupt: boolean
  }
}

/** OpenAI's list has no pages; its clients read `data`, and others may go on where `has_more`. */
export type ModelList = Page<Model>
