import { invalidRequest } from '../protocol/openai/error.ts'
import { MAX_TIMEOUT_MS, type ServiceTier } from '../protocol/runner.ts'

/** How a request is ranked among others, and until when its answer is wanted. */
export type Urgency = {
  readonly tier: ServiceTier | undefined
  /** Milliseconds since the epoch; undefined leaves the limit to the runner. */
  readonly deadlineAtMs: number | undefined
}

/**
 * @param header `x-arcana-timeout`: seconds after which the caller no longer wants the answer
 * @throws {ApiError} 400 naming the header
 */
export function readUrgency(
  tier: ServiceTier | undefined,
  header: string | undefined,
  nowMs: number,
): Urgency {
  if (header === undefined) return { tier, deadlineAtMs: undefined }
  const timeoutMs = /^\d+(\.\d+)?$/.test(header) ? Number(header) * 1000 : 0
  if (timeoutMs < 1 || timeoutMs > MAX_TIMEOUT_MS) {
    throw invalidRequest(
      `x-arcana-timeout must be a number of seconds above 0 and up to ${MAX_TIMEOUT_MS / 1000}.`,
      'x-arcana-timeout',
    )
  }
  return { tier, deadlineAtMs: nowMs + timeoutMs }
}
