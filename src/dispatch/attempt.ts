import type { GenerateEvent, RunnerStatus } from '../protocol/runner.ts'
import type { RunnerSnapshot, RunnerWish } from './choose-runner.ts'
import { RunnerCallFailure, RunnerRefusal, type RunnerClient } from './runner-client.ts'
import type { HeldCall, RunnerPool } from './runner-pool.ts'

/** No runner can take a call at the moment. */
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

/** What a call is given. */
export type ChosenRunner = {
  readonly client: RunnerClient
  readonly status: RunnerStatus
  /**
   * For an answer that goes on after the call has returned: passes its events on, and decides by how
   * they end whether the runner did what it should.
   */
  readonly follow: (events: AsyncGenerator<GenerateEvent>) => AsyncGenerator<GenerateEvent>
}

export type AttemptOptions = {
  /** Aborted when the caller has gone. */
  readonly signal?: AbortSignal
  /** A step of a job is tried again by its job, so it takes the best runner alone. */
  readonly firstOnly?: boolean
  /** The file of an adapter, for a runner that lacks it. */
  readonly readAdapter?: ReadAdapter
  /** Looks at all that may be tried; what it throws ends the attempt. */
  readonly check?: (runners: readonly RunnerSnapshot[]) => void
}

export type ReadAdapter = (digest: string) => Promise<Uint8Array>

/**
 * Makes a call on the runner that suits it best. A runner that fails before the call has returned is
 * left for the next one; a runner that lacks an adapter is sent its file and asked once more. How the
 * call ends is reported to the runner's circuit.
 * @throws {Unserved} no runner may be tried
 * @throws {RunnerCallFailure | RunnerRefusal} the last runner's
 */
export async function attempt<T>(
  pool: RunnerPool,
  wish: RunnerWish,
  call: (runner: ChosenRunner) => Promise<T>,
  { signal, firstOnly = false, readAdapter, check }: AttemptOptions = {},
): Promise<T> {
  const choice = await pool.choose(wish)
  if (choice.kind !== 'ranked') throw new Unserved(choice.kind, wish.model)
  check?.(choice.runners)
  let lastError: unknown = new Unserved('none', wish.model)
  for (const { url, status } of firstOnly ? choice.runners.slice(0, 1) : choice.runners) {
    const held = status === null ? null : pool.begin(url, wish.kind)
    if (status === null || held === null) continue
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
 * Makes a call that needs adapters on one runner; those that it lacks are pushed, and the call is made
 * once more.
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
    // Without effect unless the reader left in the middle.
    held.release()
  }
}

function settle(held: HeldCall, error: unknown): void {
  if (isRunnersFault(error)) held.fail()
  else held.release()
}

/** Whether an error says that the runner is not well; what a request asked for in vain does not. */
function isRunnersFault(error: unknown): boolean {
  if (error instanceof RunnerCallFailure) return error.kind !== 'cancelled'
  return error instanceof RunnerRefusal && error.error.code === 'internal'
}

/** Refusals by which a runner says that it is not as its status said. */
function isContradiction(error: unknown): boolean {
  return (
    error instanceof RunnerRefusal &&
    (error.error.code === 'build_mismatch' || error.error.code === 'adapter_wrong_model')
  )
}

/** Of runners that are all full, the caller hears of the one that will be free first. */
function isSoonerFree(known: unknown, other: unknown): boolean {
  const [a, b] = [known, other].map((error) =>
    error instanceof RunnerRefusal ? error.error.retry_after_seconds : undefined,
  )
  return a !== undefined && b !== undefined && a < b
}

/** Whether another runner may do what this one did not. */
function isWorthAnother(error: unknown): boolean {
  if (error instanceof RunnerCallFailure) return true
  if (!(error instanceof RunnerRefusal)) return false
  return error.error.outcome === 'retryable' || error.error.outcome === 'over_capacity'
}
