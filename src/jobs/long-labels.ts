import { askRunner } from '../dispatch/ask-runner.ts'
import type { RunnerPool } from '../dispatch/runner-pool.ts'
import type { JobWarning } from '../protocol/openai/job-report.ts'

/** A label of a few words has fewer tokens. */
const LONG_TOKENS = 8
const MAX_ASKED = 10
const MAX_NAMED = 3

/**
 * Warns of labels with so many tokens that they make a job slow, such as an emoji made of several.
 * @returns null if there are none, or no runner can tell
 */
export async function warnOfLongLabels(
  pool: RunnerPool,
  model: string,
  labels: readonly string[],
): Promise<JobWarning | null> {
  const bytesOf = (label: string) => new TextEncoder().encode(label).length
  // A label has at most as many tokens as bytes.
  const suspects = labels
    .filter((label) => bytesOf(label) > LONG_TOKENS)
    .sort((a, b) => bytesOf(b) - bytesOf(a))
    .slice(0, MAX_ASKED)
  if (suspects.length === 0) return null
  const counts = await Promise.all(suspects.map((label) => countTokens(pool, model, label)))
  const long = suspects
    .map((label, i) => ({ label, count: counts[i] ?? 0 }))
    .filter(({ count }) => count > LONG_TOKENS)
    .sort((a, b) => b.count - a.count)
  if (long.length === 0) return null
  const names = long
    .slice(0, MAX_NAMED)
    .map(({ label, count }) => `${JSON.stringify(label)} (${count})`)
  return {
    code: 'long_labels',
    message:
      `${long.length === 1 ? 'A label has' : 'Labels have'} many tokens: ${names.join(', ')}` +
      `${long.length > names.length ? ' and others' : ''}. Every token of every label is computed ` +
      'for each example, so the job takes several times as long as with labels of one or two tokens.',
    lines: [],
  }
}

async function countTokens(pool: RunnerPool, model: string, label: string): Promise<number> {
  try {
    const { count } = await askRunner(pool, model, (client) => client.tokenize({ prompt: label }))
    return count
  } catch {
    return 0
  }
}
