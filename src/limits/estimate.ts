import type { GenerateRequest } from '../protocol/runner.ts'

const CHARS_PER_TOKEN = 4
/** Reserved for an answer whose request names no length. */
const DEFAULT_ANSWER_TOKENS = 256

/**
 * Tokens that a request reserves before anyone has counted them: its prompt's characters by four,
 * and the most that its answers may have.
 */
export function estimateTokens(requests: readonly GenerateRequest[]): number {
  return requests.reduce((sum, { messages, prompt, tools, choice, sampling, arms }) => {
    const answer = choice
      ? Math.max(...choice.labels.map((label) => tokensOf(label.length)))
      : (sampling.max_tokens ?? DEFAULT_ANSWER_TOKENS)
    const isIds = Array.isArray(prompt)
    const given = isIds ? prompt.length : tokensOf(charsOf([messages, prompt, tools]))
    return sum + given + arms.length * answer
  }, 0)
}

const tokensOf = (numChars: number): number => Math.ceil(numChars / CHARS_PER_TOKEN)

function charsOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce<number>((sum, part) => sum + charsOf(part), 0)
}
