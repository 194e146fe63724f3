import type { UsageRow } from '../db/usage.ts'
import { startGeneration, type Generation, type GenerationPlan } from '../dispatch/generate.ts'
import type { WaitClock } from '../dispatch/wait-clock.ts'
import { readUrgency, type Urgency } from '../dispatch/urgency.ts'
import type { Bindings } from '../env.ts'
import type { Admission } from '../limits/admission.ts'
import { estimateTokens } from '../limits/estimate.ts'
import { missingScope } from '../protocol/openai/error.ts'
import type { KeyScope } from '../protocol/key-scopes.ts'
import type { ServiceTier } from '../protocol/runner.ts'
import type { Usage } from '../protocol/openai/chat-completions.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { servicesOf } from '../services.ts'
import { readModel, selectionOf } from '../tasks/requested-model.ts'
import { resolveSelection } from '../tasks/resolve.ts'
import { readAdapter } from '../tasks/stored-adapter.ts'

/** A request for an answer, whatever brought it: HTTP, or a line of a batch. */
export type AnswerContext = {
  readonly env: Bindings
  readonly requestId: string
  readonly projectId: string
  /** Of the key that asks. */
  readonly keyId: string | null
  readonly scopes: readonly KeyScope[]
  /** The value of a header; a line of a batch has none. */
  readonly header: (name: string) => string | undefined
  /** Aborted when nobody wants the answer any more. */
  readonly signal: AbortSignal
  /** Measures how long the request waits for runners; absent where nobody asks. */
  readonly waits?: WaitClock
  /** Under the limits of project and key; absent where nothing limits the request. */
  readonly admission?: Admission
  /** Takes the usage of an answer once it is complete. */
  readonly recordUsage: (row: UsageRow) => void
}

/** The fields that all objects of one answer share. */
export type AnswerHead = {
  readonly id: string
  readonly created: number
  readonly model: string
  readonly service_tier?: ServiceTier
}

export function answerHead(
  prefix: 'chatcmpl-' | 'cmpl-' | 'resp_',
  requestId: string,
  { model, selection }: Requested,
  tier: ServiceTier | undefined,
): AnswerHead {
  return {
    id: `${prefix}${requestId.slice('req_'.length)}`,
    created: Math.floor(Date.now() / 1000),
    model: selection === null ? model : `${model}:${selection.expression}`,
    ...(tier === undefined ? {} : { service_tier: tier }),
  }
}

/**
 * The base model and the selection that a request names; a null selection means the base model
 * alone.
 */
export type Requested = {
  readonly model: string
  readonly selection: ResolvedSelection | null
}

/**
 * Finds what a request's `model` and `x-task` name.
 * @throws {ApiError}
 */
export async function resolveRequested(
  { env, projectId, header }: AnswerContext,
  text: string,
): Promise<Requested> {
  const { model, selection: afterModel } = readModel(servicesOf(env).config, text)
  const selected = selectionOf(afterModel, header('x-task'))
  if (selected === null) return { model, selection: null }
  const { terms, param } = selected
  return { model, selection: await resolveSelection(env.DB, projectId, model, terms, param) }
}

/**
 * When a request is to be served, by its `service_tier` and its `x-arcana-timeout`.
 * @throws {ApiError} 403 where the key may not ask for priority; 400 for a malformed header
 */
export function urgencyOf(
  { scopes, header }: AnswerContext,
  tier: ServiceTier | undefined,
): Urgency {
  if (tier === 'priority' && !scopes.includes('inference:priority')) {
    throw missingScope('inference:priority')
  }
  return readUrgency(tier, header('x-arcana-timeout'), Date.now())
}

/**
 * Admits a request under the limits of its project and key. Its answer must end the admission.
 * @param signal aborted when the caller has gone
 * @throws {ApiError} 429 over a limit
 */
export const admit = async (
  { admission }: AnswerContext,
  plans: readonly GenerationPlan[],
  signal: AbortSignal,
): Promise<void> => admission?.begin(estimateTokens(plans.map(({ request }) => request)), signal)

/**
 * Starts a planned request on a runner. The runner gets the project's adapters that it lacks.
 * @throws {ApiError}
 */
export async function startPlan(
  { env, projectId, admission, waits }: AnswerContext,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Generation> {
  const generation = await startGeneration(
    {
      pool: servicesOf(env).runners,
      readAdapter: (digest) => readAdapter(env, projectId, digest),
      waits,
    },
    plan,
    signal,
  )
  if (admission === undefined) return generation
  return { ...generation, events: admission.watch(generation.events) }
}

/** @returns a function that records an answer's usage */
export function usageRecorder(
  { requestId, projectId, keyId, admission, recordUsage }: AnswerContext,
  answer: {
    readonly route: 'chat.completions' | 'completions' | 'responses'
    readonly requested: Requested
    readonly runnerId: string
  },
): (used: Usage) => void {
  return (used) => {
    admission?.answered(used.total_tokens)
    recordUsage({
      requestId,
      projectId,
      keyId,
      createdAtMs: Date.now(),
      route: answer.route,
      model: answer.requested.model,
      selection: answer.requested.selection?.expression ?? null,
      runnerId: answer.runnerId,
      promptTokens: used.prompt_tokens,
      cachedTokens: used.prompt_tokens_details.cached_tokens,
      completionTokens: used.completion_tokens,
    })
  }
}
