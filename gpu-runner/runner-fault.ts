import type { RunnerError } from '../src/protocol/runner.ts'

type Code = RunnerError['code']
type Details = Partial<Pick<RunnerError, 'param' | 'missing' | 'retry_after_seconds'>>

/** The HTTP status of each fault, and the outcome that tells the caller what to do next. */
const FAULTS: Readonly<Record<Code, { status: number; outcome: RunnerError['outcome'] }>> = {
  invalid_request: { status: 400, outcome: 'unserviceable' },
  unauthorized: { status: 401, outcome: 'unserviceable' },
  not_found: { status: 404, outcome: 'unserviceable' },
  context_length_exceeded: { status: 400, outcome: 'unserviceable' },
  adapter_not_resident: { status: 409, outcome: 'retryable' },
  adapter_invalid: { status: 400, outcome: 'unserviceable' },
  adapter_wrong_model: { status: 400, outcome: 'unserviceable' },
  dataset_not_resident: { status: 404, outcome: 'retryable' },
  build_mismatch: { status: 409, outcome: 'unserviceable' },
  over_capacity: { status: 503, outcome: 'over_capacity' },
  deadline_exceeded: { status: 504, outcome: 'unserviceable' },
  aborted: { status: 499, outcome: 'retryable' },
  internal: { status: 500, outcome: 'fatal' },
}

/** A request's failure, as the runner protocol reports it. */
export class RunnerFault extends Error {
  override readonly name = 'RunnerFault'
  readonly code: Code
  readonly details: Readonly<Details>

  constructor(code: Code, message: string, details: Readonly<Details> = {}) {
    super(message)
    this.code = code
    this.details = details
  }

  get status(): number {
    return FAULTS[this.code].status
  }

  toWire(): RunnerError {
    return {
      code: this.code,
      message: this.message,
      outcome: FAULTS[this.code].outcome,
      ...this.details,
    }
  }

  /** Turns anything thrown into a fault. What is not one already is a bug and becomes `internal`. */
  static from(error: unknown): RunnerFault {
    if (error instanceof RunnerFault) return error
    return new RunnerFault('internal', error instanceof Error ? error.message : String(error))
  }
}
