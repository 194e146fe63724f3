/** A header names this many pointers and counts the rest. */
const MAX_POINTERS = 16
const MAX_POINTER_CHARS = 200

/** What the caller of an answer may not expect. */
export type Warnings = {
  /** The words of `x-arcana-warning`. */
  readonly words?: readonly string[]
  /** JSON pointers to keywords of the request's schemas that the runner does not enforce. */
  readonly schemaHints?: readonly string[]
}

/** Writes `x-arcana-warning`, and `x-arcana-not-held` with the keywords that are not enforced. */
export function warningHeaders({ words = [], schemaHints = [] }: Warnings): Record<string, string> {
  const all = [...words, ...(schemaHints.length > 0 ? ['schema-not-held'] : [])]
  return {
    ...(all.length > 0 ? { 'x-arcana-warning': all.join(', ') } : {}),
    ...(schemaHints.length > 0 ? { 'x-arcana-not-held': listPointers(schemaHints) } : {}),
  }
}

function listPointers(pointers: readonly string[]): string {
  const shown = pointers.slice(0, MAX_POINTERS).map((pointer) => {
    // A property may have any name, but a header holds ASCII only, and commas separate the pointers.
    const text = encodeURI(pointer.toWellFormed()).replaceAll(',', '%2C')
    return text.length <= MAX_POINTER_CHARS ? text : `${text.slice(0, MAX_POINTER_CHARS)}...`
  })
  const numMore = pointers.length - shown.length
  return [...shown, ...(numMore > 0 ? [`${numMore} more`] : [])].join(', ')
}
