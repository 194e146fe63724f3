import type { EngineRequest } from '../scheduler/request.ts'

/** What an engine tells those who count or log its work. */
export type EngineEvent =
  | { readonly kind: 'submitted'; readonly request: EngineRequest }
  | { readonly kind: 'decode_step'; readonly numRows: number; readonly ms: number }
  | { readonly kind: 'prefill_chunk'; readonly numTokens: number; readonly ms: number }
  /** `ms` is the time from admission to a row's first token. */
  | { readonly kind: 'first_token'; readonly request: EngineRequest; readonly ms: number }
  /** `ms` is the time since the row's previous token, waiting included. */
  | { readonly kind: 'next_token'; readonly request: EngineRequest; readonly ms: number }
  | { readonly kind: 'preempted' | 'resumed'; readonly numRows: number }
  | {
      readonly kind: 'ended'
      readonly request: EngineRequest
      readonly how: 'finished' | 'failed' | 'aborted' | 'expired'
      readonly ms: number
    }

export type EngineListener = (event: EngineEvent) => void
