import { invalidRequest } from '../protocol/openai/error.ts'
import type { Applied, GenerateEvent, GenerateRequest, RunnerStatus } from '../protocol/runner.ts'
import { findProofMismatch, isSameApplied, type ExpectedProof } from './proof.ts'
import { RunnerFault, RunnerRefusal, type RunnerClient } from './runner-client.ts'
import { noRunner, proofMismatch, toApiError } from './runner-error.ts'
import type { RunnerPool } from './runner-pool.ts'

export type GenerationContext = {
  readonly pool: RunnerPool
  /** The file of an adapter, for a runner that lacks it. */
  readonly readAdapter: (digest: string) => Promise<Uint8Array<ArrayBuffer>>
}

export type GenerationPlan = {
  readonly model: string
  /** Null: the base model alone. */
  readonly modelDigest: string | null
  readonly request: GenerateRequest
  /** Past it nobody wants the answer, milliseconds since the epoch. */
  readonly deadlineAtMs?: number
  /** One an arm, in their order. */
  readonly expected: readonly ExpectedProof[]
}

export type Generation = {
  readonly runnerId: string
  /** What the first arm's admission said, checked. */
  readonly accepted: Applied
  /** Keywords of the request's schemas that nothing holds the answer to, as pointers to them. */
  readonly schemaHints: readonly string[]
  /** Functions and calls are shown in a form that the model was not taught. */
  readonly hasGenericTools: boolean
  /** All events, the first admission included; every proof in them is checked as it passes. */
  readonly events: AsyncGenerator<GenerateEvent>
}

/**
 * Finds a runner for a request and starts it there. A runner that fails before it admits the
 * request is left for the next; one that lacks an adapter gets its bytes and is asked once more.
 * @param signal aborted when the caller has gone
 * @throws {ApiError}
 */
export async function startGeneration(
  context: GenerationContext,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Generation> {
  const adapters = plan.expected.flatMap(({ arm }) => arm.adapters.map(({ digest }) => digest))
  const choice = await context.pool.choose({
    model: plan.model,
    modelDigest: plan.modelDigest,
    adapters,
  })
  if (choice.kind === 'wrong_model') {
    throw invalidRequest(
      `The task was learnt on another base model than the ${plan.model} served now.`,
      'model',
      'adapter_wrong_model',
    )
  }
  if (choice.kind !== 'ranked') {
    throw noRunner(`No runner serves ${plan.model} at the moment. Try again shortly.`)
  }
  checkMaxTokens(plan, choice.runners)
  let lastError: unknown = null
  for (const { url, status } of choice.runners) {
    try {
      const client = context.pool.clientOf(url)
      const started = await startOn(client, context, plan, adapters, signal)
      context.pool.reportSuccess(url)
      return { runnerId: status?.runner_id ?? url, ...started }
    } catch (error) {
      lastError = isSoonerFree(lastError, error) ? lastError : error
      if (error instanceof RunnerFault && !signal.aborted) context.pool.reportFailure(url)
      if (signal.aborted || !isWorthAnother(error)) break
    }
  }
  throw toApiError(lastError)
}

/** As OpenAI does: more than any answer of the model can have is a mistake, and is not cut in silence. */
function checkMaxTokens(
  { request }: GenerationPlan,
  runners: readonly { readonly status: RunnerStatus | null }[],
): void {
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

/** Of runners that are all full, the caller hears of the one that will be free first. */
function isSoonerFree(known: unknown, other: unknown): boolean {
  const [a, b] = [known, other].map((error) =>
    error instanceof RunnerRefusal ? error.error.retry_after_seconds : undefined,
  )
  return a !== undefined && b !== undefined && a < b
}

/** Whether another runner may do what this one did not. */
export function isWorthAnother(error: unknown): boolean {
  if (error instanceof RunnerFault) return true
  if (!(error instanceof RunnerRefusal)) return false
  return error.error.outcome === 'retryable' || error.error.outcome === 'over_capacity'
}

async function startOn(
  client: RunnerClient,
  context: GenerationContext,
  plan: GenerationPlan,
  adapters: readonly string[],
  signal: AbortSignal,
): Promise<Omit<Generation, 'runnerId'>> {
  try {
    return await generateOn(client, plan, signal)
  } catch (error) {
    if (!(error instanceof RunnerRefusal) || error.error.code !== 'adapter_not_resident')
      throw error
    await pushAdapters(client, context, new Set(error.error.missing ?? adapters), adapters)
    return generateOn(client, plan, signal)
  }
}

/**
 * Starts a request on one runner, with every adapter there that it needs.
 * @throws {RunnerRefusal | RunnerFault | ApiError}
 */
export async function generateOn(
  client: RunnerClient,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Omit<Generation, 'runnerId'>> {
  const controller = new AbortController()
  const onAbort = () => {
    controller.abort(signal.reason)
  }
  if (signal.aborted) throw new RunnerFault('cancelled', 'given up before it began')
  signal.addEventListener('abort', onAbort, { once: true })
  const raw = await client.generate(withTimeout(plan, Date.now()), controller)
  const events = checkEvents(raw, plan.expected, () => {
    signal.removeEventListener('abort', onAbort)
    // Without effect after a whole answer; after half of one it frees the runner's rows.
    controller.abort(new RunnerFault('cancelled', 'the answer was given up'))
  })
  const first = await events.next()
  if (first.done === true) throw new RunnerFault('died', 'runner ended before admission')
  if (first.value.event !== 'accepted') throw proofMismatch('no admission')
  const { applied, schema_hints: schemaHints = [], tool_form: form } = first.value
  return {
    accepted: applied,
    schemaHints,
    hasGenericTools: form === 'generic',
    events: prepend(first.value, events),
  }
}

/** What is left of the time until the deadline goes with each try. */
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

/**
 * Passes events on only while they hold to the protocol: each arm admitted with the expected proof
 * before its first token, its end repeating that proof, `done` after the last end.
 */
async function* checkEvents(
  raw: AsyncGenerator<GenerateEvent>,
  expected: readonly ExpectedProof[],
  release: () => void,
): AsyncGenerator<GenerateEvent> {
  const admitted = new Map<number, Applied>()
  const ended = new Set<number>()
  try {
    for await (const event of raw) {
      if (event.event === 'error') throw new RunnerRefusal(event.error)
      if (event.event === 'done') {
        if (ended.size !== expected.length) throw proofMismatch('an arm never ended')
        yield event
        return
      }
      const proof = expected[event.arm]
      const applied = admitted.get(event.arm)
      if (proof === undefined || ended.has(event.arm)) throw proofMismatch(`arm ${event.arm}`)
      if (event.event === 'accepted') {
        const mismatch = findProofMismatch(proof, event.applied)
        if (mismatch !== null) throw proofMismatch(mismatch)
        admitted.set(event.arm, event.applied)
      } else if (applied === undefined) {
        throw proofMismatch('no admission')
      } else if (event.event === 'end') {
        if (!isSameApplied(applied, event.applied)) throw proofMismatch('changed during the answer')
        ended.add(event.arm)
      }
      yield event
    }
    throw new RunnerFault('died', 'runner stream ended without its terminal frame')
  } finally {
    release()
    await raw.return(undefined)
  }
}

async function pushAdapters(
  client: RunnerClient,
  context: GenerationContext,
  missing: ReadonlySet<string>,
  adapters: readonly string[],
): Promise<void> {
  for (const digest of new Set(adapters)) {
    if (!missing.has(digest)) continue
    await client.putAdapter(digest, await context.readAdapter(digest))
  }
}
