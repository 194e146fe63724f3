import type { RunnerError } from '../protocol/runner.ts'

/** The runner answered, and said no. */
export class RunnerRefusal extends Error {
  readonly error: RunnerError

  constructor(error: RunnerError) {
    super(`${error.code}: ${error.message}`)
    this.name = 'RunnerRefusal'
    this.error = error
  }
}

export type CallFailureKind =
  /** No connection, or no answer on it. */
  | 'unreachable'
  /** The answer broke off. */
  | 'died'
  /** A deadline of the gateway passed. */
  | 'timeout'
  /** The gateway gave the call up itself, because the caller has gone. */
  | 'cancelled'
  /** An error status without the protocol's error, as from a proxy before the runner. */
  | 'bad_status'
  /** The answer is not JSON, not of the protocol, or contradicts the request. */
  | 'malformed'
  /** The answer is longer than any that was asked for. */
  | 'oversized'
  /** A number of the answer is NaN or infinite. */
  | 'not_finite'
  /** The runner speaks another version of the protocol. */
  | 'wrong_version'
  /** The runner says that it applied something else than the request asked for. */
  | 'wrong_proof'

/** A call on a runner failed: no answer came, it broke off, or it is not to be believed. */
export class RunnerCallFailure extends Error {
  readonly kind: CallFailureKind

  constructor(kind: CallFailureKind, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'RunnerCallFailure'
    this.kind = kind
  }
}

/** @param what the first thing that differs from the request */
export const wrongProof = (what: string) => new RunnerCallFailure('wrong_proof', what)

/** @param what the event that may not come here, or the one that is missing */
export const outOfOrder = (what: string) =>
  new RunnerCallFailure('malformed', `runner's events are not in the protocol's order: ${what}`)

const BAD_ANSWERS: readonly CallFailureKind[] = [
  'malformed',
  'oversized',
  'not_finite',
  'wrong_version',
  'wrong_proof',
]

/** Whether a runner answered, and its answer is not to be believed. */
export const isBadAnswer = (error: unknown): error is RunnerCallFailure =>
  error instanceof RunnerCallFailure && BAD_ANSWERS.includes(error.kind)
