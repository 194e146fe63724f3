import type { Batch } from '../protocol/openai/batches.ts'
import type { BatchSpec } from './batch-spec.ts'

export type CancelOutcome = { readonly isTooLate: boolean; readonly batch: Batch }

/**
 * The calls that the Worker makes on a batch's Durable Object. All but `create` give null if it has
 * no batch.
 */
export interface BatchCalls {
  create(spec: BatchSpec): Promise<Batch>
  read(): Promise<Batch | null>
  cancel(): Promise<CancelOutcome | null>
}
