import { DrizzleQueryError } from 'drizzle-orm'

type LoggedError = { readonly message: string; readonly stack?: string | undefined }

/**
 * An error as the log may have it. A failed query's message and stack begin with its parameters,
 * the hashes of keys among them, so only its SQL and its cause are told.
 */
export function describeForLog(error: Error, withStack: boolean): LoggedError {
  if (!(error instanceof DrizzleQueryError)) {
    return { message: error.message, stack: withStack ? error.stack : undefined }
  }
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  return {
    message: `Failed query: ${error.query}: ${error.cause?.message ?? 'no cause'}`,
    stack: withStack ? frames.join('\n') : undefined,
  }
}
