import type { Context } from 'hono'
import type { AppEnv } from '../context.ts'
import { insertUsage } from '../db/usage.ts'
import { startGeneration, type Generation, type GenerationPlan } from '../dispatch/generate.ts'
import { Admission } from '../limits/admission.ts'
import { estimateTokens } from '../limits/estimate.ts'
import { readUrgency, type Urgency } from '../dispatch/urgency.ts'
import { missingScope } from '../protocol/openai/error.ts'
import type { ServiceTier } from '../protocol/runner.ts'
import type { Usage } from '../protocol/openai/chat-completions.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { servicesOf } from '../services.ts'
import { readModel, selectionOf } from '../tasks/requested-model.ts'
import { resolveSelection } from '../tasks/resolve.ts'
import { readAdapter } from '../tasks/stored-adapter.ts'

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

export const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
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
export async function resolveRequested(c: Context<AppEnv>, text: string): Promise<Requested> {
  const { model, selection: afterModel } = readModel(servicesOf(c.env).config, text)
  const selected = selectionOf(afterModel, c.req.header('x-task'))
  if (selected === null) return { model, selection: null }
  const { terms, param } = selected
  return {
    model,
    selection: await resolveSelection(c.env.DB, c.get('projectId'), model, terms, param),
  }
}

/**
 * When a request is to be served, by its `service_tier` and its `x-arcana-timeout`.
 * @throws {ApiError} 403 where the key may not ask for priority; 400 for a malformed header
 */
export function urgencyOf(c: Context<AppEnv>, tier: ServiceTier | undefined): Urgency {
  if (tier === 'priority' && !c.get('caller').scopes.includes('inference:priority')) {
    throw missingScope('inference:priority')
  }
  return readUrgency(tier, c.req.header('x-arcana-timeout'), Date.now())
}

/**
 * Admits a request under the limits of its project and key. Its answer must end the admission; the
 * middleware does where there is no answer.
 * @param signal aborted when the caller has gone
 * @throws {ApiError} 429 over a limit
 */
export async function admit(
  c: Context<AppEnv>,
  plans: readonly GenerationPlan[],
  signal: AbortSignal,
): Promise<Admission> {
  const { keyId, limits } = c.get('caller')
  const admission = new Admission({
    env: c.env,
    projectId: c.get('projectId'),
    limits,
    lease: servicesOf(c.env).leases.leaseOf(keyId, limits),
    waitUntil: (promise) => {
      c.executionCtx.waitUntil(promise)
    },
    signal,
  })
  c.set('admission', admission)
  await admission.begin(estimateTokens(plans.map(({ request }) => request)))
  return admission
}

/**
 * Starts a planned request on a runner. The runner gets the project's adapters that it lacks.
 * @throws {ApiError}
 */
export async function startPlan(
  c: Context<AppEnv>,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Generation> {
  const generation = await startGeneration(
    {
      pool: servicesOf(c.env).runners,
      readAdapter: (digest) => readAdapter(c.env, c.get('projectId'), digest),
    },
    plan,
    signal,
  )
  const admission = c.get('admission')
  if (admission === undefined) return generation
  return { ...generation, events: admission.watch(generation.events) }
}

/** @returns a function that writes an answer's usage after the response */
export function usageRecorder(
  c: Context<AppEnv>,
  answer: {
    readonly route: 'chat.completions' | 'completions' | 'responses'
    readonly requested: Requested
    readonly runnerId: string
  },
): (used: Usage) => void {
  return (used) => {
    c.get('admission')?.answered(used.total_tokens)
    c.executionCtx.waitUntil(
      insertUsage(c.env.DB, {
        requestId: c.get('requestId'),
        projectId: c.get('projectId'),
        keyId: c.get('caller').keyId,
        createdAtMs: Date.now(),
        route: answer.route,
        model: answer.requested.model,
        selection: answer.requested.selection?.expression ?? null,
        runnerId: answer.runnerId,
        promptTokens: used.prompt_tokens,
        cachedTokens: used.prompt_tokens_details.cached_tokens,
        completionTokens: used.completion_tokens,
      }),
    )
  }
}
