import type { TextGrader } from '../../protocol/openai/graders.ts'
import { JobFailure } from '../faults.ts'
import type { GradedItem } from './graded-item.ts'

/** How often a webhook is asked about one text before the job fails. */
const MAX_ATTEMPTS = 3
const RETRY_DELAY_MS = 200
/** An answer holds one number, so it is far shorter. */
const MAX_ANSWER_BYTES = 64 * 1024

/** Whether the gateway's operator allows graders at a URL's host. */
export const isAllowedHost = (url: string, allowedHosts: readonly string[]): boolean =>
  allowedHosts.includes(new URL(url).host.toLowerCase())

/**
 * Asks a webhook for the score of a text. It asks allowed hosts only and follows no redirects. A
 * score must be a finite number.
 * @throws {JobFailure} `grader_failed` if every attempt fails
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
    `The grader at ${host} failed ${MAX_ATTEMPTS} times on one text. The last error: ${lastError}.`,
    'method',
  )
}

/** @throws {Error} the message says what is wrong with the answer */
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
