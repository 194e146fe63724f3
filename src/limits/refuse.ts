import { ApiError } from '../protocol/openai/error.ts'
import type { Standings } from './lease-call.ts'
import type { LimitName, Refusal } from '../protocol/limits.ts'

const WORDS: Readonly<Record<LimitName, string>> = {
  requestsPerMinute: 'requests per min (RPM)',
  tokensPerMinute: 'tokens per min (TPM)',
  concurrentRequests: 'concurrent requests',
  storedBytes: 'stored bytes',
  runningJobs: 'running jobs',
  tokensPerMonth: 'tokens per month',
}

/** 429 in OpenAI's words. Its clients do not repeat what cannot succeed soon. */
export function refused({ limit, owner, max, used, requested, retryAfterMs }: Refusal): ApiError {
  const whose = owner === 'project' ? 'this project' : 'this API key'
  const figures = `Limit ${max}, Used ${used}, Requested ${requested}.`
  const retryAfterSeconds = retryAfterMs === null ? null : Math.ceil(retryAfterMs / 1000)
  const after = retryAfterSeconds === null ? {} : { retryAfterSeconds }
  if (limit === 'tokensPerMonth') {
    return new ApiError(
      429,
      `You exceeded your current quota: the ${WORDS[limit]} of ${whose}. ${figures}`,
      { type: 'insufficient_quota', code: 'insufficient_quota', isFinal: true, ...after },
    )
  }
  const type = limit === 'tokensPerMinute' ? 'tokens' : 'requests'
  const code = 'rate_limit_exceeded'
  if (retryAfterMs === null) {
    return new ApiError(
      429,
      `Request too large for ${whose}, on ${WORDS[limit]}: ${figures} It can never fit.`,
      { type, code, isFinal: true },
    )
  }
  return new ApiError(
    429,
    `Rate limit reached for ${whose}, on ${WORDS[limit]}: ${figures} ` +
      `Please try again in ${retryAfterSeconds}s.`,
    { type, code, ...after },
  )
}

/** `x-ratelimit-…` of the limits that there are. */
export function limitHeaders(standings: Standings): Record<string, string> {
  return Object.fromEntries(
    (['requests', 'tokens'] as const).flatMap((unit) => {
      const standing = standings[unit]
      if (standing === undefined) return []
      return [
        [`x-ratelimit-limit-${unit}`, String(standing.limit)],
        [`x-ratelimit-remaining-${unit}`, String(standing.remaining)],
        [`x-ratelimit-reset-${unit}`, formatDuration(standing.resetMs)],
      ]
    }),
  )
}

/** As OpenAI writes durations: `120ms`, `7s`, `1m0s`. */
export function formatDuration(ms: number): string {
  if (ms > 0 && ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
