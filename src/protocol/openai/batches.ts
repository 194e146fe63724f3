/** `/v1/batches`: OpenAI's shapes. */
import { z } from 'zod'
import { pageQuerySchema } from './files.ts'
import { metadataSchema } from './metadata.ts'

export const BATCH_ENDPOINTS = ['/v1/chat/completions', '/v1/completions', '/v1/responses'] as const
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number]

/** OpenAI's. */
export const MAX_BATCH_LINES = 50_000
const MAX_CUSTOM_ID_CHARS = 512

const DEFAULT_PAGE = 20
const MAX_PAGE = 100
export const batchesQuerySchema = pageQuerySchema(DEFAULT_PAGE, MAX_PAGE)

export const createBatchSchema = z
  .strictObject({
    input_file_id: z.string().min(1),
    endpoint: z.enum(BATCH_ENDPOINTS, { error: `must be one of ${BATCH_ENDPOINTS.join(', ')}` }),
    completion_window: z.literal('24h', { error: 'must be 24h' }),
    metadata: metadataSchema.nullish(),
  })
  .transform((body) => ({
    inputFileId: body.input_file_id,
    endpoint: body.endpoint,
    metadata: body.metadata ?? null,
  }))
export type CreateBatch = z.output<typeof createBatchSchema>

/** A line of an input file: one request. */
export const batchLineSchema = z.strictObject({
  custom_id: z.string().min(1).max(MAX_CUSTOM_ID_CHARS),
  method: z.literal('POST', { error: 'must be POST' }),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
})
export type BatchLine = z.output<typeof batchLineSchema>

export type BatchStatus =
  | 'validating'
  | 'failed'
  | 'in_progress'
  | 'finalizing'
  | 'completed'
  | 'expired'
  | 'cancelling'
  | 'cancelled'

/** A fault of the input file. */
export type BatchError = {
  readonly code: string
  /** From 1; null for a fault of the whole file. */
  readonly line: number | null
  readonly message: string
  readonly param: string | null
}

export type BatchUsage = {
  readonly input_tokens: number
  readonly input_tokens_details: { readonly cached_tokens: number }
  readonly output_tokens: number
  readonly output_tokens_details: { readonly reasoning_tokens: number }
  readonly total_tokens: number
}

/** Unix seconds; null until it happens. */
export type BatchTimes = {
  readonly in_progress_at: number | null
  readonly finalizing_at: number | null
  readonly completed_at: number | null
  readonly failed_at: number | null
  readonly expired_at: number | null
  readonly cancelling_at: number | null
  readonly cancelled_at: number | null
}

export type Batch = BatchTimes & {
  readonly id: string
  readonly object: 'batch'
  readonly endpoint: BatchEndpoint
  /** Null where the lines name several models, or have not been read. */
  readonly model: string | null
  readonly errors: { readonly object: 'list'; readonly data: readonly BatchError[] } | null
  readonly input_file_id: string
  readonly completion_window: '24h'
  readonly status: BatchStatus
  readonly output_file_id: string | null
  readonly error_file_id: string | null
  readonly created_at: number
  readonly expires_at: number
  readonly request_counts: {
    readonly total: number
    readonly completed: number
    readonly failed: number
  }
  readonly usage: BatchUsage
  readonly metadata: Readonly<Record<string, string>> | null
}

/** Why a request has no response. */
export type BatchLineError = {
  readonly code: 'batch_expired' | 'batch_cancelled' | 'request_timeout'
  readonly message: string
}
