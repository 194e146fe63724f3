import { invalidRequest } from '../protocol/openai/error.ts'
import type { Applied, GenerateEvent, GenerateRequest } from '../protocol/runner.ts'
import { attempt, type ReadAdapter } from './attempt.ts'
import type { RunnerSnapshot } from './choose-runner.ts'
import { checkEvents } from './check-events.ts'
import { promptHead } from './prompt-head.ts'
import type { ExpectedProof } from './proof.ts'
import type { RunnerClient } from './runner-client.ts'
import { toApiError } from './runner-error.ts'
import { outOfOrder, RunnerCallFailure } from './runner-failure.ts'
import { WaitClock } from './wait-clock.ts'
import type { RunnerPool } from './runner-pool.ts'

export type GenerationContext = {
  readonly pool: RunnerPool
  /** Reads the file of an adapter, for a runner that lacks it. */
  readonly readAdapter: ReadAdapter
  /** Measures the waits for runners. */
  readonly waits?: WaitClock | undefined
}

export type GenerationPlan = {
  readonly model: string
  /** Null for the base model alone. */
  readonly modelDigest: string | null
  readonly request: GenerateRequest
  /** After this time nobody wants the answer; milliseconds since the epoch. */
  readonly deadlineAtMs?: number
  /** One for each arm, in their order. */
  readonly expected: readonly ExpectedProof[]
}

export type Generation = {
  readonly runnerId: string
  /** What the runner says it applied to the first arm, already checked. */
  readonly accepted: Applied
  /** JSON pointers to keywords of the request's schemas that the runner does not enforce. */
  readonly schemaHints: readonly string[]
  /**
   * Whether functions are shown in a generic form, because the model's template has none for them.
   */
  readonly hasGenericTools: boolean
  /** All events, with the first admission among them. Each proof is checked as it passes. */
  readonly events: AsyncGenerator<GenerateEvent>
}

/**
 * Finds a runner for a request and starts it there.
 * @param signal aborted when the caller has gone
 * @throws {ApiError}
 */
export async function startGeneration(
  context: GenerationContext,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Generation> {
  const { pool, readAdapter, waits } = context
  const adapters = plan.expected.flatMap(({ arm }) => arm.adapters.map(({ digest }) => digest))
  const { model, modelDigest } = plan
  try {
    return await attempt(
      pool,
      { kind: 'generate', model, modelDigest, adapters, prefix: promptHead(plan.request) },
      async ({ client, status, follow }) => {
        const started = await generateOn(client, plan, signal, waits)
        return { ...started, runnerId: status.runner_id, events: follow(started.events) }
      },
      {
        signal,
        readAdapter,
        waits,
        check: (runners) => {
          checkMaxTokens(plan, runners)
        },
      },
    )
  } catch (error) {
    throw toApiError(error)
  }
}

/**
 * Refuses, like OpenAI, more tokens than the model's context has, instead of silently giving fewer.
 */
function checkMaxTokens({ request }: GenerationPlan, runners: readonly RunnerSnapshot[]): void {
  const { max_tokens: given } = request.sampling
  const limit = Math.max(...runners.map(({ status }) => status?.model.max_context ?? Infinity))
  if (given === undefined || given <= limit) return
  throw invalidRequest(
    `max_tokens is too large: ${given}. This model supports at most ${limit} completion tokens, ` +
      `whereas you provided ${given}.`,
    'max_tokens',
    'invalid_value',
  )
}

/**
 * Starts a request on one runner, which must have all adapters that the request needs.
 * @throws {RunnerRefusal | RunnerCallFailure | ApiError}
 */
export async function generateOn(
  client: RunnerClient,
  plan: GenerationPlan,
  signal: AbortSignal,
  waits = new WaitClock(),
): Promise<Omit<Generation, 'runnerId'>> {
  const controller = new AbortController()
  const onAbort = () => {
    controller.abort(signal.reason)
  }
  if (signal.aborted)
    throw new RunnerCallFailure('cancelled', 'the caller left before the call began')
  signal.addEventListener('abort', onAbort, { once: true })
  const raw = await waits.during(client.generate(withTimeout(plan, Date.now()), controller))
  const events = checkEvents(waits.each(raw), plan, () => {
    signal.removeEventListener('abort', onAbort)
    // This does nothing after a complete answer. After a part of one it frees the runner's rows.
    controller.abort(new RunnerCallFailure('cancelled', 'the caller left during the answer'))
  })
  const first = await events.next()
  if (first.done === true) throw new RunnerCallFailure('died', 'runner ended before admission')
  if (first.value.event !== 'accepted') throw outOfOrder('no admission')
  const { applied, schema_hints: schemaHints = [], tool_form: form } = first.value
  return {
    accepted: applied,
    schemaHints,
    hasGenericTools: form === 'generic',
    events: prepend(first.value, events),
  }
}

/** Tells the runner how much time is left until the deadline. Each try has less of it. */
function withTimeout({ request, deadlineAtMs }: GenerationPlan, nowMs: number): GenerateRequest {
  if (deadlineAtMs === undefined) return request
  return { ...request, timeout_ms: Math.max(1, Math.ceil(deadlineAtMs - nowMs)) }
}

async function* prepend<T>(first: T, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    yield first
    yield* rest
  } finally {
    await rest.return(undefined)
  }
}
