import type { RunnerStatus } from '../protocol/runner.ts'
import { Unserved } from './attempt.ts'
import { toApiError } from './runner-error.ts'
import type { RunnerPool } from './runner-pool.ts'

/**
 * The digests and the geometry of a base model as the runners serve it now.
 * @throws {ApiError} 503 if no runner serves it
 */
export async function servedModel(pool: RunnerPool, model: string): Promise<RunnerStatus['model']> {
  const choice = await pool.choose({
    kind: 'tokenize',
    model,
    modelDigest: null,
    adapters: [],
  })
  const status = choice.kind === 'ranked' ? choice.runners[0]?.status : null
  if (status == null) throw toApiError(new Unserved('none', model))
  return status.model
}
