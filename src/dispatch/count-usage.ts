import type { Usage } from '../protocol/openai/chat-completions.ts'
import type { GenerateEvent } from '../protocol/runner.ts'

export type EndEvent = Extract<GenerateEvent, { event: 'end' }>

/** Counts the tokens of one prompt, once, and of all answers to it. */
export function usageOf(ends: readonly EndEvent[]): Usage {
  const prompt = ends[0]?.usage.prompt_tokens ?? 0
  const completion = ends.reduce((sum, { usage }) => sum + usage.completion_tokens, 0)
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: ends[0]?.usage.cached_tokens ?? 0 },
  }
}

/** Adds up the usage of several prompts. */
export function sumUsage(usages: readonly Usage[]): Usage {
  const total = (pick: (usage: Usage) => number) =>
    usages.reduce((sum, usage) => sum + pick(usage), 0)
  return {
    prompt_tokens: total((usage) => usage.prompt_tokens),
    completion_tokens: total((usage) => usage.completion_tokens),
    total_tokens: total((usage) => usage.total_tokens),
    prompt_tokens_details: {
      cached_tokens: total((usage) => usage.prompt_tokens_details.cached_tokens),
    },
  }
}
