import { WorkerEntrypoint } from 'cloudflare:workers'
import type { AnswerContext } from '../answers/answer-context.ts'
import { readChatCompletion, startChatCompletion } from '../answers/chat-completion.ts'
import { readCompletion, startCompletion } from '../answers/completion.ts'
import { readResponse, startResponse } from '../answers/response.ts'
import type { UsageRow } from '../db/usage.ts'
import type { Bindings } from '../env.ts'
import type { BatchEndpoint } from '../protocol/openai/batches.ts'
import { Admission } from '../limits/admission.ts'
import type { CallerLimits } from '../protocol/limits.ts'
import { ApiError, internalError, invalidField } from '../protocol/openai/error.ts'
import { servicesOf } from '../services.ts'

/** A line that waits in queues or runs for longer than this is tried again. */
const LINE_TIMEOUT_SECONDS = 600

export type LineCall = {
  readonly projectId: string
  readonly keyId: string
  readonly limits: CallerLimits
  readonly requestId: string
  readonly endpoint: BatchEndpoint
  /** JSON. */
  readonly body: string
}

export type LineAnswer =
  | {
      readonly kind: 'answered'
      readonly status: number
      /** JSON. */
      readonly body: string
      /** Null for an error. */
      readonly usage: UsageRow | null
    }
  /** No runner has room at the moment, which says nothing about the line. */
  | { readonly kind: 'no_room' }
  /** Another try may succeed. `body` and `status` are for the last one. */
  | { readonly kind: 'fault'; readonly status: number; readonly body: string }

/**
 * Answers lines of batches. Each call has connections and CPU time of its own, which one Durable
 * Object would have to share among all lines that run at once.
 */
export class LineAnswerer extends WorkerEntrypoint<Bindings> {
  answer(call: LineCall): Promise<LineAnswer> {
    return answerLine(this.env, call, (promise) => {
      this.ctx.waitUntil(promise)
    })
  }
}

async function answerLine(
  env: Bindings,
  call: LineCall,
  waitUntil: (promise: Promise<unknown>) => void,
): Promise<LineAnswer> {
  const { projectId, keyId, limits, requestId, endpoint } = call
  const lease = servicesOf(env).leases.leaseOf(keyId, limits)
  const admission = new Admission({ env, projectId, limits, lease, waitUntil })
  let usage: UsageRow | null = null
  const context: AnswerContext = {
    env,
    requestId,
    projectId,
    keyId,
    scopes: [],
    header: (name) => (name === 'x-arcana-timeout' ? String(LINE_TIMEOUT_SECONDS) : undefined),
    signal: new AbortController().signal,
    admission,
    recordUsage: (row) => {
      usage = row
    },
  }
  try {
    const body = JSON.parse(call.body) as Record<string, unknown>
    const answer = await ANSWERS[endpoint](context, asBatchRequest(body))
    return { kind: 'answered', status: 200, body: JSON.stringify(answer), usage }
  } catch (error) {
    return answerOfError(error, requestId)
  } finally {
    admission.end()
  }
}

const ANSWERS: Readonly<
  Record<BatchEndpoint, (context: AnswerContext, body: Record<string, unknown>) => Promise<object>>
> = {
  '/v1/chat/completions': async (...request) =>
    readChatCompletion(await startChatCompletion(...request)),
  '/v1/completions': async (...request) => readCompletion(await startCompletion(...request)),
  '/v1/responses': async (...request) => readResponse(await startResponse(...request)),
}

/**
 * A line's body as the request that runs.
 * @throws {ApiError} 400 if it asks for a stream, or for a tier before live requests
 */
function asBatchRequest(body: Record<string, unknown>): Record<string, unknown> {
  if (body['stream'] === true) throw invalidField('stream', 'a batch has no streams')
  const tier = body['service_tier']
  if (tier != null && tier !== 'auto' && tier !== 'flex') {
    throw invalidField('service_tier', 'a batch runs at flex, behind live requests')
  }
  return { ...body, service_tier: 'flex' }
}

function answerOfError(error: unknown, requestId: string): LineAnswer {
  if (!(error instanceof ApiError)) {
    console.error(
      JSON.stringify({ event: 'batch_line_failed', request_id: requestId, error: String(error) }),
    )
  }
  const known = error instanceof ApiError ? error : internalError()
  const { status } = known
  // A limit that the line can never keep names no time.
  const isLater = status === 503 || (status === 429 && known.retryAfterSeconds !== null)
  if (isLater) return { kind: 'no_room' }
  const body = JSON.stringify(known.toBody())
  if (status >= 500) return { kind: 'fault', status, body }
  return { kind: 'answered', status, body, usage: null }
}
