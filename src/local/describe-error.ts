/** Describes an error and its causes in one line. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === 'string' ? error : JSON.stringify(error)
  const text = (error.message || error.name).replaceAll(/\s+/g, ' ')
  return error.cause === undefined ? text : `${text}; because: ${describeError(error.cause)}`
}
