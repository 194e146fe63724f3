import type { RunnerStatus } from '../protocol/runner.ts'
import { noRunner } from './runner-error.ts'
import type { RunnerPool } from './runner-pool.ts'

/**
 * The base model as the runners serve it now: its digest and its shape.
 * @throws {ApiError} 503 where no runner serves it
 */
export async function servedModel(pool: RunnerPool, model: string): Promise<RunnerStatus['model']> {
  const choice = await pool.choose({ model, modelDigest: null, adapters: [] })
  const status = choice.kind === 'ranked' ? choice.runners[0]?.status : null
  if (status == null) {
    throw noRunner(`No runner serves ${model} at the moment. Try again shortly.`)
  }
  return status.model
}
