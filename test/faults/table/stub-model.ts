/** What the stub runner says when nothing is wrong with it. */
import type { Applied, GenerateEvent } from '../../../src/protocol/runner.ts'
import { APPLIED } from '../../fixtures/stub-status.ts'

export const PROMPT_TOKENS = 12
export const COMPLETION_TOKENS = 8
/** A prompt has this with a number; the answer repeats it, so that answers cannot be swapped unseen. */
const MARK = /mark-\d+/

/** The answer to a text that has a mark. */
export function wordsFor(text: string): string[] {
  const mark = MARK.exec(text)?.[0] ?? 'no mark'
  return Array.from({ length: COMPLETION_TOKENS }, (_, i) => (i === 0 ? mark : ` word${i}`))
}

export const accepted = (applied: Applied = APPLIED): GenerateEvent => ({
  event: 'accepted',
  arm: 0,
  applied,
  prompt_tokens: PROMPT_TOKENS,
})

export const tokens = (words: readonly string[]): GenerateEvent[] =>
  words.map((text, id) => ({ event: 'token', arm: 0, text, ids: [id] }))

export const end = (
  numTokens = COMPLETION_TOKENS,
  applied: Applied = APPLIED,
): Extract<GenerateEvent, { event: 'end' }> => ({
  event: 'end',
  arm: 0,
  finish_reason: 'length',
  usage: { prompt_tokens: PROMPT_TOKENS, completion_tokens: numTokens, cached_tokens: 0 },
  applied,
  first_token_ms: 1,
  total_ms: 2,
})

export const DONE: GenerateEvent = { event: 'done', num_prefills: 1 }
export const lineOf = (event: unknown): string => `${JSON.stringify(event)}\n`
