/** What HTTP adds to an answer: who asks, and how the answer is sent. */
import type { Context } from 'hono'
import type { AnswerContext } from '../answers/answer-context.ts'
import type { AppEnv } from '../context.ts'
import { recordUsage } from '../limits/record-usage.ts'
import type { Urgency } from '../dispatch/urgency.ts'
import { Admission } from '../limits/admission.ts'
import { servicesOf } from '../services.ts'
import { holdJson, holdMsOf, sendHeld } from '../http/held-json.ts'

export function answerContextOf(
  c: Context<AppEnv>,
): AnswerContext & { readonly admission: Admission } {
  const { keyId, scopes, limits } = c.get('caller')
  const admission = new Admission({
    env: c.env,
    projectId: c.get('projectId'),
    limits,
    lease: servicesOf(c.env).leases.leaseOf(keyId, limits),
    waitUntil: (promise) => {
      c.executionCtx.waitUntil(promise)
    },
  })
  // The middleware reads its headers, and ends it where there is no answer.
  c.set('admission', admission)
  return {
    env: c.env,
    requestId: c.get('requestId'),
    projectId: c.get('projectId'),
    keyId,
    scopes,
    header: (name) => c.req.header(name),
    signal: c.req.raw.signal,
    admission,
    recordUsage: (row) => {
      c.executionCtx.waitUntil(recordUsage(c.env, row))
    },
  }
}

/** An answer that has begun, as the routes send it. */
type Sendable = {
  readonly urgency: Urgency
  /** Aborted when the client goes away. */
  readonly caller: AbortController
  readonly headers: Record<string, string>
}

/** Sends an answer that comes whole. */
export const sendWhole = async (
  { urgency, caller, headers }: Sendable,
  answer: Promise<object>,
): Promise<Response> =>
  sendHeld(await holdJson(answer, caller, holdMsOf(urgency, Date.now())), headers)

export const sendStream = ({ headers }: Sendable, stream: ReadableStream<Uint8Array>): Response =>
  new Response(stream, {
    headers: {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
    },
  })
