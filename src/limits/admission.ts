import type { Bindings } from '../env.ts'
import { ApiError } from '../protocol/openai/error.ts'
import type { GenerateEvent } from '../protocol/runner.ts'
import { exchangeWith } from './lease-pool.ts'
import { HEARTBEAT_MS, type Exchange, type Lease, type Ticket } from './lease.ts'
import { limitsRequests, type CallerLimits } from '../protocol/limits.ts'
import { limitHeaders, refused } from './refuse.ts'

export type AdmissionOptions = {
  readonly env: Bindings
  readonly projectId: string
  readonly limits: CallerLimits
  readonly lease: Lease
  /** Keeps the request's context alive until a promise ends. */
  readonly waitUntil: (promise: Promise<unknown>) => void
}

/**
 * One request under the limits of its project and key, from its admission to its end. It reserves
 * tokens and is charged what it used: nothing if it failed, and what was computed until then if its
 * client left.
 */
export class Admission {
  readonly #options: AdmissionOptions
  readonly #exchange: Exchange
  #ticket: Ticket | null = null
  #isOver = false
  #heartbeat: ReturnType<typeof setInterval> | null = null
  #onEnd: () => void = () => undefined
  #numComputed = 0
  #numUsed: number | null = null
  #signal: AbortSignal | null = null

  constructor(options: AdmissionOptions) {
    this.#options = options
    this.#exchange = exchangeWith(options.env, options.projectId)
  }

  /**
   * @param signal aborted when the client has gone
   * @throws {ApiError} 429 over a limit; 503 if the limits cannot be asked
   */
  async begin(tokens: number, signal: AbortSignal): Promise<void> {
    const { lease, limits, waitUntil } = this.#options
    this.#signal = signal
    if (limitsRequests(limits)) {
      // Others may wait for a call that this request makes, also when its client has gone.
      waitUntil(
        new Promise<void>((resolve) => {
          this.#onEnd = resolve
        }),
      )
    }
    let outcome
    try {
      outcome = await lease.admit(tokens, limits, this.#exchange)
    } catch (error) {
      this.#onEnd()
      logFailure(error)
      throw new ApiError(503, 'The limits of this project cannot be checked at the moment.', {
        code: 'limits_unavailable',
        retryAfterSeconds: 1,
      })
    }
    if ('limit' in outcome) {
      this.#onEnd()
      throw refused(outcome)
    }
    const ticket = outcome
    this.#ticket = ticket
    signal.addEventListener('abort', () => {
      this.end()
    })
    if (signal.aborted) this.end()
    if ((limits.project.concurrentRequests ?? limits.key.concurrentRequests) === undefined) return
    this.#heartbeat = setInterval(() => {
      lease.keep(ticket, this.#exchange).catch(logFailure)
    }, HEARTBEAT_MS)
  }

  /** Passes a generation's events on and counts the tokens that were computed for it. */
  async *watch(events: AsyncGenerator<GenerateEvent>): AsyncGenerator<GenerateEvent> {
    for await (const event of events) {
      if (event.event === 'accepted' && event.arm === 0) this.#numComputed += event.prompt_tokens
      else if (event.event === 'token') this.#numComputed += event.ids.length
      yield event
    }
  }

  /** Says what a complete answer used. */
  answered(tokens: number): void {
    this.#numUsed = tokens
  }

  /** Ends it when `run` has ended, however. */
  async during<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } finally {
      this.end()
    }
  }

  /** Ends it. A second call does nothing. */
  end(): void {
    if (this.#isOver || this.#ticket === null) return
    this.#isOver = true
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat)
    const { lease, waitUntil } = this.#options
    const used = this.#numUsed ?? (this.#signal?.aborted === true ? this.#numComputed : 0)
    waitUntil(
      lease.settle(this.#ticket, used, this.#exchange).catch(logFailure).finally(this.#onEnd),
    )
  }

  /** Those of the limits that the request was held to. */
  headers(): Record<string, string> {
    return limitHeaders(this.#options.lease.standings())
  }
}

function logFailure(error: unknown): void {
  console.error(JSON.stringify({ event: 'limits_unavailable', error: String(error) }))
}
