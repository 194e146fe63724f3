import { z } from 'zod'

/** `limit`, `after` and `order` of OpenAI's lists. */
export const pageQuerySchema = (
  defaultLimit: number,
  maxLimit: number,
  defaultOrder: 'asc' | 'desc' = 'desc',
) =>
  z.object({
    limit: z.coerce.number().int().min(1).max(maxLimit).default(defaultLimit),
    after: z.string().min(1).optional(),
    order: z.enum(['asc', 'desc']).default(defaultOrder),
  })

const MAX_FILES_PAGE = 10_000
export const filesPageSchema = pageQuerySchema(MAX_FILES_PAGE, MAX_FILES_PAGE).extend({
  purpose: z.string().optional(),
})

/** Lines that, with their answers, do not fit the context of the served model. */
export type TooLongLines = {
  /** In tokens. */
  readonly max_context: number
  readonly num_lines: number
  /** The first hundred of them. */
  readonly lines: readonly number[]
  /** False if the file has more long text than the gateway measures. */
  readonly is_complete: boolean
}

export type FileObject = {
  readonly id: string
  readonly object: 'file'
  readonly bytes: number
  /** Unix seconds. */
  readonly created_at: number
  readonly filename: string
  readonly purpose: string
  readonly status: 'processed'
  readonly arcana: {
    readonly num_examples: number
    /** Only the answer to an upload has this, and only if there are such lines. */
    readonly too_long?: TooLongLines
  }
}

export type Page<T extends { readonly id: string }> = {
  readonly object: 'list'
  readonly data: readonly T[]
  readonly has_more: boolean
  readonly first_id: string | null
  readonly last_id: string | null
}

/** @param rows up to one more than `limit`, which says that the list goes on */
export function toPage<T extends { readonly id: string }>(
  rows: readonly T[],
  limit: number,
): Page<T> {
  const data = rows.slice(0, limit)
  return {
    object: 'list',
    data,
    has_more: rows.length > limit,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  }
}
