import { isWorthAnother } from './generate.ts'
import type { RunnerClient } from './runner-client.ts'
import { RunnerFault } from './runner-client.ts'
import { noRunner, toApiError } from './runner-error.ts'
import type { RunnerPool } from './runner-pool.ts'

/**
 * Puts a question that any runner of the model can answer to the first that does.
 * @throws {ApiError}
 */
export async function askRunner<T>(
  pool: RunnerPool,
  model: string,
  ask: (client: RunnerClient) => Promise<T>,
): Promise<T> {
  const choice = await pool.choose({ model, modelDigest: null, adapters: [] })
  if (choice.kind !== 'ranked') {
    throw noRunner(`No runner serves ${model} at the moment. Try again shortly.`)
  }
  let lastError: unknown = null
  for (const { url } of choice.runners) {
    try {
      return await ask(pool.clientOf(url))
    } catch (error) {
      lastError = error
      if (error instanceof RunnerFault) pool.reportFailure(url)
      if (!isWorthAnother(error)) break
    }
  }
  throw toApiError(lastError)
}
