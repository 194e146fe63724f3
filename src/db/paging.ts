import { and, eq, gt, lt, or, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'

export type PageQuery = {
  readonly limit: number
  readonly after?: string | undefined
  readonly order: 'asc' | 'desc'
}

/** Selects the rows that follow `cursor` in a list ordered by time and then by id. */
export function following(
  columns: { readonly createdAtMs: SQLiteColumn; readonly id: SQLiteColumn },
  cursor: { readonly createdAtMs: number; readonly id: string },
  order: 'asc' | 'desc',
): SQL | undefined {
  const past = order === 'asc' ? gt : lt
  return or(
    past(columns.createdAtMs, cursor.createdAtMs),
    and(eq(columns.createdAtMs, cursor.createdAtMs), past(columns.id, cursor.id)),
  )
}
