import { APIError } from 'openai'

/** The error with which a call of the official client is refused. @throws {Error} it succeeded */
export async function failure(call: Promise<unknown>): Promise<APIError> {
  const error: unknown = await call.then(
    () => new Error('the call succeeded'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof APIError) return error
  throw error
}
