import type { LogitsProcessor } from './logits-processor.ts'

/**
 * Divides the positive logits of tokens already in the prompt or the answer, and multiplies their
 * negative ones.
 * @param penalty > 0; above 1 discourages repetition
 * Source: Keskar et al. 2019, arXiv:1909.05858; the prompt counts, as in vLLM and transformers
 */
export function repetitionPenalty(penalty: number): LogitsProcessor {
  return {
    process(logits, history) {
      for (const id of history.seen()) {
        const logit = logits[id]!
        logits[id] = logit > 0 ? logit / penalty : logit * penalty
      }
    },
  }
}
