import type { ChatLogprobs } from '../protocol/openai/chat-completions.ts'
import type { LabelProbability } from '../protocol/runner.ts'

/** OpenAI's least: JSON has no −∞. */
const LEAST_LOGPROB = -9999

/**
 * An answer of labels as one token: its label, and the likeliest labels in its place.
 * @param labels as served: calibrated
 * @param numTop labels to name
 */
export function labelLogprobs(
  labels: readonly LabelProbability[],
  answer: string,
  numTop: number,
): ChatLogprobs {
  const tokens = labels.map(({ label, probability }) => ({
    token: label,
    logprob: Math.max(Math.log(probability), LEAST_LOGPROB),
    bytes: [...new TextEncoder().encode(label)],
  }))
  const top = tokens.toSorted((a, b) => b.logprob - a.logprob).slice(0, numTop)
  const said = tokens.find(({ token }) => token === answer)
  return { content: said === undefined ? [] : [{ ...said, top_logprobs: top }], refusal: null }
}
