import { RunnerCallFailure, RunnerRefusal } from '../dispatch/runner-client.ts'
import { TASK_OF_OTHER_MODEL, TaskOfOtherModel } from '../db/versions.ts'
import { BlobCorrupt } from '../storage/blobs.ts'
import type { JobError } from '../protocol/openai/fine-tuning.ts'

/** Every reachable runner serves another build than the one on which the job measured its trials. */
export class BuildChanged extends Error {
  constructor() {
    super('no runner serves the build on which this job began')
    this.name = 'BuildChanged'
  }
}

/** The job was begun by a release that wrote the search's state in another form. */
export class SearchOutdated extends Error {
  constructor() {
    super('another release began the search')
    this.name = 'SearchOutdated'
  }
}

/** The job cannot succeed, however often its step is tried. */
export class JobFailure extends Error {
  readonly error: JobError

  constructor(code: string, message: string, param: string | null = null) {
    super(message)
    this.name = 'JobFailure'
    this.error = { code, message, param }
  }
}

export type FaultVerdict =
  /** Past the limit the job fails with this error. */
  | { readonly kind: 'retry'; readonly limitMs: number; readonly lastError: JobError }
  /** `why` is written for the job's owner. */
  | { readonly kind: 'restart'; readonly why: string }
  | { readonly kind: 'fail'; readonly error: JobError }

/** A job waits this long for a runner: one may be deployed again, or a laptop may sleep. */
const RUNNER_LIMIT_MS = 30 * 60_000
/** Storage recovers within this time; a bug does not recover at all. */
const UNKNOWN_LIMIT_MS = 2 * 60_000

const BUILD_CHANGED: FaultVerdict = {
  kind: 'restart',
  why: 'The runners now serve another build of the model',
}

/** Decides what to do after a step has thrown. */
export function judgeFault(error: unknown): FaultVerdict {
  if (error instanceof BuildChanged) return BUILD_CHANGED
  if (error instanceof SearchOutdated) {
    return {
      kind: 'restart',
      why: 'The service was upgraded, and its search works differently now',
    }
  }
  if (error instanceof JobFailure) return { kind: 'fail', error: error.error }
  if (error instanceof TaskOfOtherModel) {
    return {
      kind: 'fail',
      error: { code: TASK_OF_OTHER_MODEL, message: error.message, param: 'suffix' },
    }
  }
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
    const isByExamples = code === 'context_length_exceeded' || code === 'invalid_request'
    return { kind: 'fail', error: { code, message, param: isByExamples ? 'training_file' : null } }
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
  lastError: { code, message, param: null },
})

const BACKOFF_BASE_MS = 250
const BACKOFF_MAX_MS = 5_000

/**
 * How long to wait before the next try.
 * @param numFaults faults since the last success, at least 1
 */
export const backoffMs = (numFaults: number): number =>
  Math.min(BACKOFF_BASE_MS * 2 ** Math.min(numFaults - 1, 10), BACKOFF_MAX_MS)
