import { invalidRequest } from '../protocol/openai/error.ts'
import { MAX_TIMEOUT_MS, type ServiceTier } from '../protocol/runner.ts'
import { HOLD_MS } from '../http/held-json.ts'

/** When a request is to be served: before whom, and until when. */
export type Service = {
  readonly tier: ServiceTier | undefined
  /** Milliseconds since the epoch; undefined leaves it to the runner. */
  readonly deadlineAtMs: number | undefined
}

/** An answer with a deadline keeps its status open this long at most. */
const MAX_HOLD_MS = 60_000
/** For the runner's word that the deadline has passed to get here. */
const GRACE_MS = 1_000

/**
 * @param header `x-arcana-timeout`: seconds after which the caller no longer wants the answer
 * @throws {ApiError} 400 naming the header
 */
export function readService(
  tier: ServiceTier | undefined,
  header: string | undefined,
  nowMs: number,
): Service {
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

/** How long an unstreamed answer is held, so that a deadline that passes still gets its status. */
export function holdMsOf({ deadlineAtMs }: Service, nowMs: number): number {
  if (deadlineAtMs === undefined) return HOLD_MS
  return Math.max(HOLD_MS, Math.min(deadlineAtMs - nowMs + GRACE_MS, MAX_HOLD_MS))
}
