import type { ChatLogprobs } from '../protocol/openai/chat-completions.ts'
import type { LabelProbability } from '../protocol/runner.ts'

/** OpenAI's lowest value, for probability 0: JSON cannot hold −∞. */
const LEAST_LOGPROB = -9999

/**
 * The log probabilities of an answer that is a label, which counts as one token: its own, and those
 * of the likeliest labels.
 * @param labels the labels' probabilities under the selection's temperature
 * @param numTop how many of the likeliest labels to list
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
