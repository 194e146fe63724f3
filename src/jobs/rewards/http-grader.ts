import type { TextGrader } from '../../protocol/openai/graders.ts'
import { JobFailure } from '../faults.ts'
import type { GradedItem } from './graded-item.ts'

/** Tries of one text; a grader that fails more often would leave it without a score. */
const MAX_ATTEMPTS = 3
const RETRY_DELAY_MS = 200
/** An answer is one number. */
const MAX_ANSWER_BYTES = 64 * 1024

/** Whether a URL's host is one that the gateway's operator has named. */
export const isAllowedHost = (url: string, allowedHosts: readonly string[]): boolean =>
  allowedHosts.includes(new URL(url).host.toLowerCase())

/**
 * Asks a webhook for the score of a text. Only named hosts are asked, redirects are not followed,
 * and nothing but a finite number is a score.
 * @throws {JobFailure} `grader_failed` after as many errors as there are attempts
 */
export async function askWebhook(
  grader: TextGrader & { readonly type: 'http' },
  { input, output, target }: GradedItem,
  options: { readonly allowedHosts: readonly string[]; readonly signal: AbortSignal },
): Promise<number> {
  const { host } = new URL(grader.url)
  if (!isAllowedHost(grader.url, options.allowedHosts)) {
    throw new JobFailure('grader_failed', `The gateway may not ask graders at ${host}.`, 'method')
  }
  let lastError = ''
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    if (attempt > 0) await sleep(RETRY_DELAY_MS * 2 ** attempt)
    const timeout = AbortSignal.timeout(grader.timeout_seconds * 1000)
    try {
      const response = await fetch(grader.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ input, output, target }),
        redirect: 'manual',
        signal: AbortSignal.any([timeout, options.signal]),
      })
      return readScore(response.status, await readText(response))
    } catch (error) {
      options.signal.throwIfAborted()
      lastError = timeout.aborted
        ? `no answer in ${grader.timeout_seconds} s`
        : error instanceof Error
          ? error.message
          : String(error)
    }
  }
  throw new JobFailure(
    'grader_failed',
    `The grader at ${host} failed ${MAX_ATTEMPTS} times on one text; at last: ${lastError}.`,
    'method',
  )
}

/** @throws {Error} saying what is wrong with the answer */
function readScore(status: number, text: string): number {
  if (status < 200 || status > 299) throw new Error(`status ${status}`)
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    throw new Error('its answer is not JSON')
  }
  const score =
    typeof answer === 'object' && answer !== null && 'score' in answer ? answer.score : undefined
  if (typeof score === 'number' && Number.isFinite(score)) return score
  throw new Error('its answer has no "score" that is a number')
}

async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let numBytes = 0
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    numBytes += chunk.length
    if (numBytes > MAX_ANSWER_BYTES) throw new Error(`its answer is over ${MAX_ANSWER_BYTES} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
