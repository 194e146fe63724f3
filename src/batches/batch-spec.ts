import type { CallerLimits } from '../protocol/limits.ts'
import type {
  Batch,
  BatchEndpoint,
  BatchError,
  BatchStatus,
  BatchTimes,
} from '../protocol/openai/batches.ts'

/** What a batch was asked for; it never changes. */
export type BatchSpec = {
  readonly projectId: string
  /** Of the key that made the batch: its lines' usage is counted to it. */
  readonly keyId: string
  /** The lines are held to these, as they were when the batch was made. */
  readonly limits: CallerLimits
  readonly id: string
  readonly createdAtMs: number
  readonly expiresAtMs: number
  readonly endpoint: BatchEndpoint
  readonly inputFileId: string
  readonly inputKey: string
  readonly metadata: Readonly<Record<string, string>> | null
  /** The ids that the batch's files will have, if there are such lines. */
  readonly outputFileId: string
  readonly errorFileId: string
}

export type BatchState = {
  readonly status: BatchStatus
  readonly times: BatchTimes
  /** How the batch ends once its files are written. */
  readonly ending: 'completed' | 'expired' | 'cancelled'
  readonly errors: readonly BatchError[]
  readonly model: string | null
  readonly numTotal: number
  readonly numCompleted: number
  readonly numFailed: number
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
  readonly hasOutputFile: boolean
  readonly hasErrorFile: boolean
  readonly revision: number
  /** The latest revision that D1 has. */
  readonly projectedRevision: number
}

export const INITIAL_STATE: BatchState = {
  status: 'validating',
  times: {
    in_progress_at: null,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
  },
  ending: 'completed',
  errors: [],
  model: null,
  numTotal: 0,
  numCompleted: 0,
  numFailed: 0,
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  hasOutputFile: false,
  hasErrorFile: false,
  revision: 1,
  projectedRevision: 0,
}

const ENDED: readonly BatchStatus[] = ['completed', 'failed', 'expired', 'cancelled']
export const hasEnded = ({ status }: BatchState): boolean => ENDED.includes(status)

export const unixSeconds = (ms: number): number => Math.floor(ms / 1000)

/** The batch as its owner sees it. */
export function viewBatch(spec: BatchSpec, state: BatchState): Batch {
  const { promptTokens, cachedTokens, completionTokens, errors } = state
  return {
    id: spec.id,
    object: 'batch',
    endpoint: spec.endpoint,
    model: state.model,
    errors: errors.length === 0 ? null : { object: 'list', data: errors },
    input_file_id: spec.inputFileId,
    completion_window: '24h',
    status: state.status,
    output_file_id: state.hasOutputFile ? spec.outputFileId : null,
    error_file_id: state.hasErrorFile ? spec.errorFileId : null,
    created_at: unixSeconds(spec.createdAtMs),
    ...state.times,
    expires_at: unixSeconds(spec.expiresAtMs),
    request_counts: {
      total: state.numTotal,
      completed: state.numCompleted,
      failed: state.numFailed,
    },
    usage: {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: cachedTokens },
      output_tokens: completionTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: promptTokens + completionTokens,
    },
    metadata: spec.metadata,
  }
}
