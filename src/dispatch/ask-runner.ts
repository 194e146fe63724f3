import { attempt } from './attempt.ts'
import type { RunnerClient } from './runner-client.ts'
import { toApiError } from './runner-error.ts'
import type { RunnerPool } from './runner-pool.ts'
import { WaitClock } from './wait-clock.ts'

/**
 * Asks the model's runners in turn until one answers. Any of them can answer the question.
 * @throws {ApiError}
 */
export async function askRunner<T>(
  pool: RunnerPool,
  model: string,
  ask: (client: RunnerClient) => Promise<T>,
  waits = new WaitClock(),
): Promise<T> {
  const wish = { kind: 'tokenize', model, modelDigest: null, adapters: [] } as const
  try {
    return await attempt(pool, wish, ({ client }) => waits.during(ask(client)), { waits })
  } catch (error) {
    throw toApiError(error)
  }
}
