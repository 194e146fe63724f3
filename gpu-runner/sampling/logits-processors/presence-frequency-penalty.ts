import type { LogitsProcessor } from './logits-processor.ts'

/**
 * Takes `presence` off the logit of each token of the answer so far, and `frequency` for each time
 * it stands there. The prompt does not count.
 * Source: OpenAI's API reference, frequency and presence penalties
 */
export function presenceFrequencyPenalty(presence: number, frequency: number): LogitsProcessor {
  return {
    process(logits, history) {
      for (const [id, count] of history.generated) logits[id]! -= presence + frequency * count
    },
  }
}
