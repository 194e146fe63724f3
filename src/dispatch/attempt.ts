import type { GenerateEvent, RunnerStatus } from '../protocol/runner.ts'
import type { RunnerSnapshot, RunnerWish } from './choose-runner.ts'
import { RunnerCallFailure, RunnerRefusal, type RunnerClient } from './runner-client.ts'
import { jitterMs } from './retry-budget.ts'
import type { HeldCall, RunnerPool } from './runner-pool.ts'

/** No runner can take the call at the moment. */
export class Unserved extends Error {
  override readonly name = 'Unserved'
  readonly kind: 'none' | 'wrong_model' | 'wrong_build'
  readonly model: string

  constructor(kind: Unserved['kind'], model: string) {
    super(`no runner serves ${model} (${kind})`)
    this.kind = kind
    this.model = model
  }
}

/** The runner on which a call is made. */
export type ChosenRunner = {
  readonly client: RunnerClient
  readonly status: RunnerStatus
  /**
   * Passes on the events of an answer that continues after the call has returned. How they end
   * decides whether the call counts as a success of the runner.
   */
  readonly follow: (events: AsyncGenerator<GenerateEvent>) => AsyncGenerator<GenerateEvent>
}

export type AttemptOptions = {
  /** Aborted when the caller has gone. */
  readonly signal?: AbortSignal
  /** Try only the best runner. Jobs set this, because they repeat a failed step themselves. */
  readonly firstOnly?: boolean
  /** Reads the file of an adapter, for a runner that lacks it. */
  readonly readAdapter?: ReadAdapter
  /**
   * Checks the call against all runners that may be tried. An error that it throws ends the
   * attempt.
   */
  readonly check?: (runners: readonly RunnerSnapshot[]) => void
}

export type ReadAdapter = (digest: string) => Promise<Uint8Array>

/**
 * Makes a call on the runner that suits it best. If a runner fails before the call has returned, the
 * next one is tried after a moment, as long as the pool's retry budget lasts. If a runner lacks an adapter, it is sent the file and called once more. Each
 * runner's circuit is told how its call ends.
 * @throws {Unserved} no runner can take the call
 * @throws {RunnerCallFailure | RunnerRefusal} the error of the last runner tried, or what is wrong
 * with a runner's status if none can be tried
 */
export async function attempt<T>(
  pool: RunnerPool,
  wish: RunnerWish,
  call: (runner: ChosenRunner) => Promise<T>,
  { signal, firstOnly = false, readAdapter, check }: AttemptOptions = {},
): Promise<T> {
  const choice = await pool.choose(wish)
  if (choice.kind !== 'ranked') {
    const fault = choice.kind === 'none' ? pool.statusFault() : null
    throw fault ?? new Unserved(choice.kind, wish.model)
  }
  check?.(choice.runners)
  let lastError: unknown = new Unserved('none', wish.model)
  let numTried = 0
  if (!firstOnly) pool.retries.addRequest(Date.now())
  for (const { url, status } of firstOnly ? choice.runners.slice(0, 1) : choice.runners) {
    if (status === null) continue
    const held = pool.begin(url, wish.kind)
    if (held === null) continue
    if (numTried > 0 && !(await mayRetry(pool, numTried, signal))) {
      held.release()
      break
    }
    numTried += 1
    const answer = { isFollowed: false }
    const client = pool.clientOf(url)
    const follow = (events: AsyncGenerator<GenerateEvent>) => {
      answer.isFollowed = true
      return followEvents(events, held)
    }
    const callNow = () => call({ client, status, follow })
    try {
      const result = await (readAdapter === undefined
        ? callNow()
        : withAdapters(client, wish.adapters, readAdapter, callNow))
      if (!answer.isFollowed) held.succeed()
      return result
    } catch (error) {
      settle(held, error)
      if (isContradiction(error)) pool.forgetStatus(url)
      lastError = isSoonerFree(lastError, error) ? lastError : error
      if (signal?.aborted === true || !isWorthAnother(error)) break
    }
  }
  throw lastError
}

/**
 * Makes a call that needs adapters on one runner. If the runner lacks some, sends it their files and
 * makes the call once more.
 */
export async function withAdapters<T>(
  client: RunnerClient,
  adapters: readonly string[],
  readAdapter: ReadAdapter,
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call()
  } catch (error) {
    if (!(error instanceof RunnerRefusal) || error.error.code !== 'adapter_not_resident')
      throw error
    const missing = new Set(error.error.missing ?? adapters)
    for (const digest of new Set(adapters)) {
      if (missing.has(digest)) await client.putAdapter(digest, await readAdapter(digest))
    }
    return call()
  }
}

async function* followEvents(
  events: AsyncGenerator<GenerateEvent>,
  held: HeldCall,
): AsyncGenerator<GenerateEvent> {
  try {
    yield* events
    held.succeed()
  } catch (error) {
    settle(held, error)
    throw error
  } finally {
    // This does nothing unless the reader left before the end.
    held.release()
  }
}

/**
 * Takes a retry from the pool's budget and waits a moment.
 * @returns false if there is none left, or the caller has gone meanwhile
 */
async function mayRetry(
  pool: RunnerPool,
  numTried: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (!pool.retries.takeRetry(Date.now())) return false
  const waitMs = jitterMs(numTried - 1, Math.random())
  await new Promise((resolve) => setTimeout(resolve, waitMs))
  return signal?.aborted !== true
}

function settle(held: HeldCall, error: unknown): void {
  if (isRunnersFault(error)) held.fail()
  else held.release()
}

/**
 * Whether an error means that the runner itself failed, and not that the request was impossible. A
 * wrong proof says nothing for sure: one project's damaged row would open all runners' circuits.
 */
function isRunnersFault(error: unknown): boolean {
  if (error instanceof RunnerCallFailure) {
    return error.kind !== 'cancelled' && error.kind !== 'wrong_proof'
  }
  return error instanceof RunnerRefusal && error.error.code === 'internal'
}

/** Whether a runner's refusal contradicts its last status. */
function isContradiction(error: unknown): boolean {
  return (
    error instanceof RunnerRefusal &&
    (error.error.code === 'build_mismatch' || error.error.code === 'adapter_wrong_model')
  )
}

/**
 * Whether the first error names the sooner time to retry. If all runners are full, the soonest
 * counts.
 */
function isSoonerFree(known: unknown, other: unknown): boolean {
  const [a, b] = [known, other].map((error) =>
    error instanceof RunnerRefusal ? error.error.retry_after_seconds : undefined,
  )
  return a !== undefined && b !== undefined && a < b
}

/** Whether another runner may succeed where this one failed. */
function isWorthAnother(error: unknown): boolean {
  if (error instanceof RunnerCallFailure) return true
  if (!(error instanceof RunnerRefusal)) return false
  return error.error.outcome === 'retryable' || error.error.outcome === 'over_capacity'
}
