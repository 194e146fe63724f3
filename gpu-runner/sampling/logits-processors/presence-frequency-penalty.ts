import type { LogitsProcessor } from './logits-processor.ts'

/**
 * Subtracts from the logit of each token in the answer so far: `presence` once, and `frequency` for each
 * time the token occurs. The prompt does not count.
 * Source: OpenAI's API reference, frequency and presence penalties
 */
export function presenceFrequencyPenalty(presence: number, frequency: number): LogitsProcessor {
  return {
    process(logits, history) {
      for (const [id, count] of history.generated) logits[id]! -= presence + frequency * count
    },
  }
}
