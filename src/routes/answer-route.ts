import type { Context } from 'hono'
import type { AppEnv } from '../context.ts'
import { insertUsage } from '../db/usage.ts'
import type { ServiceTier } from '../protocol/runner.ts'
import type { Usage } from '../protocol/openai/chat-completions.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { selectionOf } from '../tasks/plan.ts'
import { resolveSelection } from '../tasks/resolve.ts'

/** What the objects of one answer have in common. */
export type AnswerHead = {
  readonly id: string
  readonly created: number
  readonly model: string
  readonly service_tier?: ServiceTier
}

export function answerHead(
  prefix: 'chatcmpl-' | 'cmpl-' | 'resp_',
  requestId: string,
  baseModel: string,
  selection: ResolvedSelection | null,
  tier: ServiceTier | undefined,
): AnswerHead {
  return {
    id: `${prefix}${requestId.slice('req_'.length)}`,
    created: Math.floor(Date.now() / 1000),
    model: selection === null ? baseModel : `${baseModel}:${selection.expression}`,
    ...(tier === undefined ? {} : { service_tier: tier }),
  }
}

export const SSE_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
}

/**
 * The selection that a request names, with its versions.
 * @returns null for the base model
 * @throws {ApiError}
 */
export async function readSelected(
  c: Context<AppEnv>,
  model: string,
  baseModel: string,
): Promise<ResolvedSelection | null> {
  const selected = selectionOf(model, baseModel, c.req.header('x-task'))
  if (selected === null) return null
  const { terms, param } = selected
  return resolveSelection(c.env.DB, c.get('projectId'), baseModel, terms, param)
}

/** @returns writes an answer's usage after the response */
export function usageRecorder(
  c: Context<AppEnv>,
  answer: {
    readonly route: 'chat.completions' | 'completions' | 'responses'
    readonly baseModel: string
    readonly selection: ResolvedSelection | null
    readonly runnerId: string
  },
): (used: Usage) => void {
  return (used) => {
    c.executionCtx.waitUntil(
      insertUsage(c.env.DB, {
        requestId: c.get('requestId'),
        projectId: c.get('projectId'),
        createdAtMs: Date.now(),
        route: answer.route,
        model: answer.baseModel,
        selection: answer.selection?.expression ?? null,
        runnerId: answer.runnerId,
        promptTokens: used.prompt_tokens,
        completionTokens: used.completion_tokens,
      }),
    )
  }
}
