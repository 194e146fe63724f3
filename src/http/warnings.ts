/** Pointers named in a header; the rest are counted. */
const MAX_POINTERS = 16
const MAX_POINTER_CHARS = 200

/** What an answer's headers say that its caller may not have expected. */
export type Warnings = {
  /** Words of `x-arcana-warning`. */
  readonly words?: readonly string[]
  /** Keywords of the request's schemas that nothing holds the answer to, as pointers to them. */
  readonly schemaHints?: readonly string[]
}

/** `x-arcana-warning`, and `x-arcana-not-held` with the keywords that are hints alone. */
export function warningHeaders({ words = [], schemaHints = [] }: Warnings): Record<string, string> {
  const all = [...words, ...(schemaHints.length > 0 ? ['schema-not-held'] : [])]
  return {
    ...(all.length > 0 ? { 'x-arcana-warning': all.join(', ') } : {}),
    ...(schemaHints.length > 0 ? { 'x-arcana-not-held': listPointers(schemaHints) } : {}),
  }
}

function listPointers(pointers: readonly string[]): string {
  const shown = pointers.slice(0, MAX_POINTERS).map((pointer) => {
    // A property's name may be anything; a header holds ASCII, and a comma parts the pointers.
    const text = encodeURI(pointer.toWellFormed()).replaceAll(',', '%2C')
    return text.length <= MAX_POINTER_CHARS ? text : `${text.slice(0, MAX_POINTER_CHARS)}...`
  })
  const numMore = pointers.length - shown.length
  return [...shown, ...(numMore > 0 ? [`${numMore} more`] : [])].join(', ')
}
