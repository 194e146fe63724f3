import { DrizzleQueryError } from 'drizzle-orm'

type LoggedError = { readonly message: string; readonly stack?: string | undefined }

/**
 * What the log may say about an error. The message and the stack of a failed query begin with its
 * parameters, which may be hashes of keys, so only its SQL and its cause are logged.
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
