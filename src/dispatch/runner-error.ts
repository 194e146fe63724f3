import { ApiError, invalidRequest } from '../protocol/openai/error.ts'
import type { RunnerError } from '../protocol/runner.ts'
import { Unserved } from './attempt.ts'
import { RunnerCallFailure, RunnerRefusal } from './runner-failure.ts'

const OVERLOADED_RETRY_SECONDS = 1

const noRunner = (message: string) =>
  new ApiError(503, message, { code: 'no_runner', retryAfterSeconds: OVERLOADED_RETRY_SECONDS })

/** The error that a caller sees for a runner's failure. Details that it does not see are logged. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof Unserved) return ofUnserved(error)
  if (error instanceof RunnerRefusal) return ofRefusal(error.error)
  if (error instanceof RunnerCallFailure) return ofCallFailure(error)
  throw error
}

function ofUnserved({ kind, model }: Unserved): ApiError {
  if (kind !== 'wrong_model') {
    return noRunner(`No runner serves ${model} at the moment. Try again shortly.`)
  }
  return invalidRequest(
    `The task was learnt on another base model than the ${model} that is served now.`,
    'model',
    'adapter_wrong_model',
  )
}

function ofCallFailure(failure: RunnerCallFailure): ApiError {
  if (failure.kind !== 'cancelled') logRunner(failure.kind, failure.message)
  switch (failure.kind) {
    case 'cancelled':
      return new ApiError(502, 'The request was cancelled.', { code: 'cancelled' })
    case 'unreachable':
      return noRunner('No runner is reachable at the moment. Try again shortly.')
    case 'died':
      return new ApiError(502, 'The runner stopped before the answer was complete.', {
        code: 'runner_died',
      })
    case 'timeout':
      return new ApiError(502, 'The runner did not answer in time.', { code: 'runner_timeout' })
    case 'bad_status':
      return internalFault()
    case 'malformed':
      return badAnswer("The runner's answer was malformed.", 'runner_malformed')
    case 'oversized':
      return badAnswer("The runner's answer was too long.", 'runner_oversized')
    case 'not_finite':
      return badAnswer("The runner's answer has a number that is not finite.", 'runner_not_finite')
    case 'wrong_version':
      return badAnswer(
        'The runner speaks another version of the protocol than the gateway.',
        'runner_wrong_version',
      )
    case 'wrong_proof':
      return badAnswer(
        `The runner applied something else than this request asked for (${failure.message}).`,
        'proof_mismatch',
      )
  }
}

function ofRefusal(error: RunnerError): ApiError {
  const { code, message } = error
  switch (code) {
    case 'invalid_request':
      return new ApiError(400, message, { param: error.param ?? null, code: 'invalid_request' })
    case 'context_length_exceeded':
      return new ApiError(400, message, { param: error.param ?? 'messages', code })
    case 'adapter_wrong_model':
      return new ApiError(400, message, { code })
    case 'over_capacity':
      return new ApiError(503, 'All runners are at capacity. Try again shortly.', {
        code,
        retryAfterSeconds: error.retry_after_seconds ?? OVERLOADED_RETRY_SECONDS,
      })
    case 'deadline_exceeded':
      return new ApiError(504, 'The answer was not ready within the time given for it.', {
        code,
        isFinal: true,
      })
    case 'aborted':
      logRunner(code, message)
      return new ApiError(502, 'The runner aborted the request.', { code: 'runner_aborted' })
    case 'unauthorized':
    case 'not_found':
    case 'adapter_not_resident':
    case 'adapter_invalid':
    case 'dataset_not_resident':
    case 'build_mismatch':
    case 'internal':
      logRunner(code, message)
      return internalFault()
  }
}

const badAnswer = (message: string, code: string) => new ApiError(502, message, { code })

const internalFault = () => badAnswer('The runner could not serve this request.', 'runner_error')

function logRunner(code: string, message: string): void {
  console.error(JSON.stringify({ event: 'runner_failure', code, message }))
}
