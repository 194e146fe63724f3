/** Asks the gateway as a client does, and says in a few words what was seen. */
import type { GatewayProcess } from '../../fixtures/gateway-process.ts'
import { BASE_MODEL } from '../../fixtures/api.ts'
import { COMPLETION_TOKENS, wordsFor } from './stub-model.ts'

/** A client that waits longer than any scenario takes has found a fault. */
const TIMEOUT_MS = 20_000
export const WHOLE = 'whole answer'

let numAsked = 0

type Chat = { readonly choices: readonly { readonly message: { readonly content: string } }[] }
type Chunk = {
  readonly error?: { readonly code: string | null }
  readonly choices?: readonly { readonly delta: { readonly content?: string | null } }[]
}

/**
 * Makes a chat completion.
 * @returns `whole answer`, `502 CODE`, `stream error CODE` (an in-band error without `[DONE]`),
 * `connection broken`, or what is wrong with the answer
 */
export async function chat(
  gateway: GatewayProcess,
  isStreamed: boolean,
  signal: AbortSignal = AbortSignal.timeout(TIMEOUT_MS),
): Promise<string> {
  numAsked += 1
  const prompt = `mark-${numAsked}`
  const expected = wordsFor(prompt).join('')
  try {
    const response = await fetch(`${gateway.baseUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${gateway.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: BASE_MODEL,
        messages: [{ role: 'user', content: prompt }],
        max_tokens: COMPLETION_TOKENS,
        stream: isStreamed,
      }),
      signal,
    })
    if (!response.ok) return await describeRefusal(response)
    if (isStreamed) return describeStream(await response.text(), expected)
    const { content } = ((await response.json()) as Chat).choices[0]!.message
    return content === expected ? WHOLE : `a wrong answer: ${content}`
  } catch (error) {
    if (!signal.aborted) return 'connection broken'
    return (error as Error).name === 'TimeoutError' ? 'no answer in time' : 'given up'
  }
}

async function describeRefusal(response: Response): Promise<string> {
  const { error } = (await response.json()) as { error: { code: string | null } }
  const after = response.headers.get('retry-after')
  return `${response.status} ${error.code}${after === null ? '' : ` after ${after} s`}`
}

function describeStream(text: string, expected: string): string {
  const data = [...text.matchAll(/^data: (.*)$/gm)].map((match) => match[1]!)
  const isDone = data.at(-1) === '[DONE]'
  const chunks = data.filter((line) => line !== '[DONE]').map((line) => JSON.parse(line) as Chunk)
  const content = chunks.map(({ choices }) => choices?.[0]?.delta.content ?? '').join('')
  const failure = chunks.find(({ error }) => error !== undefined)?.error
  if (!expected.startsWith(content)) return `a wrong stream: ${content}`
  if (failure !== undefined) return `stream error ${failure.code}${isDone ? ' and [DONE]' : ''}`
  if (!isDone) return 'a stream without an end'
  return content === expected ? WHOLE : `a part with [DONE]: ${content}`
}

export type UsageCount = { readonly numRequests: number; readonly numTokens: number }

/** All that the gateway has counted. */
export async function readUsage(gateway: GatewayProcess): Promise<UsageCount> {
  const start = Math.floor(Date.now() / 1000) - 24 * 3600
  const response = await fetch(
    `${gateway.baseUrl}/organization/usage/completions?start_time=${start}`,
    { headers: { authorization: `Bearer ${gateway.apiKey}` } },
  )
  if (!response.ok) throw new Error(`usage: ${response.status} ${await response.text()}`)
  type Result = { readonly num_model_requests: number; readonly output_tokens: number }
  const { data } = (await response.json()) as { data: { results: readonly Result[] }[] }
  const results = data.flatMap((bucket) => bucket.results)
  return {
    numRequests: results.reduce((sum, result) => sum + result.num_model_requests, 0),
    numTokens: results.reduce((sum, result) => sum + result.output_tokens, 0),
  }
}
