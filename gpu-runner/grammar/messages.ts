/** Between the engine's thread and a grammar's. */
export type GrammarWorkerData = {
  /** Token texts in byte-level letters by id; '' for control tokens, which no grammar admits. */
  readonly vocabulary: readonly string[]
  readonly stopIds: readonly number[]
  /** Memory that compiling and matching may take. */
  readonly maxHeapBytes: number
}

export type ToGrammarWorker =
  | { readonly op: 'compile'; readonly ebnf: string }
  /** Opens a matcher at the grammar's beginning, its first mask being number 1. */
  | { readonly op: 'open'; readonly matcher: number; readonly shared: SharedArrayBuffer }
  | { readonly op: 'accept'; readonly matcher: number; readonly token: number }
  | { readonly op: 'close'; readonly matcher: number }

export type FromGrammarWorker =
  | { readonly op: 'compiled'; readonly compileMs: number }
  | { readonly op: 'refused'; readonly reason: string }

/**
 * What a matcher shares, as int32: how many masks have been written, the state below, then a bit a
 * token, 1 where it may stand next.
 */
export const MASK_NUMBER = 0
export const MASK_STATE = 1
export const MASK_WORDS = 2

/** More than the end may follow; nothing but the end; the matcher is lost. */
export const STATE_OPEN = 0
export const STATE_COMPLETE = 1
export const STATE_FAILED = 2

export const sharedMaskBytes = (vocabSize: number): number =>
  4 * (MASK_WORDS + Math.ceil(vocabSize / 32))
