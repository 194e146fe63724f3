import type { LogitsProcessor } from './logits-processor.ts'

/**
 * Adds to chosen tokens' logits. An id given twice is biased twice.
 * @param entries [token id, bias], ids within the vocabulary
 */
export function logitBias(entries: readonly (readonly [number, number])[]): LogitsProcessor {
  return {
    process(logits) {
      for (const [id, bias] of entries) logits[id]! += bias
    },
  }
}
