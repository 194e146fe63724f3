/** What the engine's thread hands a grammar's thread at its start. */
export type GrammarWorkerData = {
  /** Token texts in byte-level letters by id; '' for control tokens, which no grammar admits. */
  readonly vocabulary: readonly string[]
  readonly stopIds: readonly number[]
  /** Memory that compiling and matching may take. */
  readonly maxHeapBytes: number
}

export type ToGrammarWorker =
  | { readonly op: 'compile'; readonly ebnf: string }
  /** Opens a matcher at the grammar's beginning. Its first mask is number 1. */
  | { readonly op: 'open'; readonly matcher: number; readonly shared: SharedArrayBuffer }
  | { readonly op: 'accept'; readonly matcher: number; readonly token: number }
  | { readonly op: 'close'; readonly matcher: number }

export type FromGrammarWorker =
  | { readonly op: 'compiled'; readonly compileMs: number }
  | { readonly op: 'refused'; readonly reason: string }

/**
 * Layout of a matcher's shared memory, in int32: how many masks have been written, one of the states
 * below, then a bit for each token, 1 where the token may come next.
 */
export const MASK_NUMBER = 0
export const MASK_STATE = 1
export const MASK_WORDS = 2

/** The text can go on. */
export const STATE_OPEN = 0
/** Only the end can follow. */
export const STATE_COMPLETE = 1
/** The matcher or its thread failed. */
export const STATE_FAILED = 2

export const sharedMaskBytes = (vocabSize: number): number =>
  4 * (MASK_WORDS + Math.ceil(vocabSize / 32))
