import type { EngineRequest } from '../scheduler/request.ts'

/** What an engine says of its work to whoever counts or logs it. Times are in milliseconds. */
export type EngineEvent =
  | { readonly kind: 'submitted'; readonly request: EngineRequest }
  | { readonly kind: 'decode_step'; readonly numRows: number; readonly ms: number }
  | { readonly kind: 'prefill_chunk'; readonly numTokens: number; readonly ms: number }
  /** From admission to a row's first token. */
  | { readonly kind: 'first_token'; readonly request: EngineRequest; readonly ms: number }
  /** From a row's last token to this one, whatever came between. */
  | { readonly kind: 'next_token'; readonly request: EngineRequest; readonly ms: number }
  | { readonly kind: 'preempted' | 'resumed'; readonly numRows: number }
  | {
      readonly kind: 'ended'
      readonly request: EngineRequest
      readonly how: 'finished' | 'failed' | 'aborted' | 'expired'
      readonly ms: number
    }

export type EngineListener = (event: EngineEvent) => void
