import { RunnerCallFailure, RunnerRefusal } from '../dispatch/runner-client.ts'
import { BlobCorrupt } from '../storage/blobs.ts'
import type { JobError } from '../protocol/openai/fine-tuning.ts'

/** Every reachable runner serves another build than the one the trials were scored on. */
export class BuildChanged extends Error {
  constructor() {
    super('no runner serves the build this job began on')
    this.name = 'BuildChanged'
  }
}

/** A release that wrote a search's state otherwise began the job. */
export class SearchOutdated extends Error {
  constructor() {
    super('the search was begun by another release')
    this.name = 'SearchOutdated'
  }
}

/** The job cannot succeed, whatever is tried again. */
export class JobFailure extends Error {
  readonly error: JobError

  constructor(code: string, message: string, param: string | null = null) {
    super(message)
    this.name = 'JobFailure'
    this.error = { code, message, param }
  }
}

export type FaultVerdict =
  | { readonly kind: 'retry'; readonly limitMs: number; readonly lastly: JobError }
  /** Why is for the job's owner. */
  | { readonly kind: 'restart'; readonly why: string }
  | { readonly kind: 'fail'; readonly error: JobError }

/** A runner may be redeployed, or a laptop sleep, for this long before a job gives up on it. */
const RUNNER_LIMIT_MS = 30 * 60_000
/** Storage recovers sooner, and a bug never does. */
const UNKNOWN_LIMIT_MS = 2 * 60_000

const BUILD_CHANGED: FaultVerdict = {
  kind: 'restart',
  why: 'The runners serve another build of the model now',
}

/** What to do about a step that threw. */
export function judgeFault(error: unknown): FaultVerdict {
  if (error instanceof BuildChanged) return BUILD_CHANGED
  if (error instanceof SearchOutdated) {
    return { kind: 'restart', why: 'The service was upgraded to another way to search' }
  }
  if (error instanceof JobFailure) return { kind: 'fail', error: error.error }
  if (error instanceof BlobCorrupt) {
    console.error(JSON.stringify({ event: 'dataset_corrupt', key: error.key }))
    const message = 'The stored examples are damaged. Upload them again and begin a new job.'
    return { kind: 'fail', error: { code: 'dataset_corrupt', message, param: 'training_file' } }
  }
  if (error instanceof RunnerCallFailure) {
    return retry(RUNNER_LIMIT_MS, 'runner_unavailable', `No runner could be used: ${error.message}`)
  }
  if (error instanceof RunnerRefusal) {
    const { code, message, outcome } = error.error
    if (code === 'build_mismatch') return BUILD_CHANGED
    if (outcome === 'retryable' || outcome === 'over_capacity') {
      return retry(RUNNER_LIMIT_MS, 'runner_unavailable', `The runner kept refusing: ${message}`)
    }
    const isOfExamples = code === 'context_length_exceeded' || code === 'invalid_request'
    return { kind: 'fail', error: { code, message, param: isOfExamples ? 'training_file' : null } }
  }
  return retry(
    UNKNOWN_LIMIT_MS,
    'server_error',
    'The job could not go on because of a server error.',
  )
}

const retry = (limitMs: number, code: string, message: string): FaultVerdict => ({
  kind: 'retry',
  limitMs,
  lastly: { code, message, param: null },
})

const BACKOFF_BASE_MS = 250
const BACKOFF_MAX_MS = 5_000

/** @param numFaults since the last success, at least 1 */
export const backoffMs = (numFaults: number): number =>
  Math.min(BACKOFF_BASE_MS * 2 ** Math.min(numFaults - 1, 10), BACKOFF_MAX_MS)
