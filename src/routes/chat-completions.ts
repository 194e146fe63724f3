import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { insertUsage } from '../db/usage.ts'
import { startGeneration, type Generation } from '../dispatch/generate.ts'
import { toApiError } from '../dispatch/runner-error.ts'
import { abortWith, holdJson, sendHeld } from '../http/held-json.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  chatRequestSchema,
  withoutUnsupported,
  type ChatCompletion,
  type ChatRequest,
  type Usage,
} from '../protocol/openai/chat-completions.ts'
import { parseWire } from '../protocol/parse.ts'
import type { GenerateEvent, LabelProbability } from '../protocol/runner.ts'
import { servicesOf } from '../services.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { applyFrame } from '../tasks/frame.ts'
import {
  planArm,
  planGeneration,
  proofHeaders,
  proofOf,
  readChoiceHeader,
  selectionOf,
} from '../tasks/plan.ts'
import { resolveSelection } from '../tasks/resolve.ts'
import { chatStream } from './chat-stream.ts'

/** What the objects of one answer have in common. */
export type AnswerHead = { readonly id: string; readonly created: number; readonly model: string }

export const chatCompletions = new Hono<AppEnv>().post('/', async (c) => {
  const projectId = c.get('projectId')
  const requestId = c.get('requestId')
  const { config, runners } = servicesOf(c.env)
  const body = withoutUnsupported(await readJsonObject(c.req.raw))
  const request = parseWire(chatRequestSchema, body)
  const isChoiceWanted = readChoiceHeader(c.req.header('x-arcana-choice'))
  const selected = selectionOf(request.model, config.baseModel, c.req.header('x-task'))
  const selection =
    selected === null
      ? null
      : await resolveSelection(
          c.env.DB,
          projectId,
          config.baseModel,
          selected.terms,
          selected.param,
        )
  const { messages, replaced } = frameOf(selection, request)
  const labels = isChoiceWanted ? (selection?.labels ?? null) : null
  const plan = planGeneration({
    requestId,
    model: config.baseModel,
    messages,
    arms: [await planArm(selection, labels, request.seed)],
    labels,
    sampling: request,
  })
  const caller = abortWith(c.req.raw.signal)
  const generation = await startGeneration(
    { pool: runners, blobs: c.env.BLOBS, projectId },
    plan,
    caller.signal,
  )

  const head: AnswerHead = {
    id: `chatcmpl-${requestId.slice('req_'.length)}`,
    created: Math.floor(Date.now() / 1000),
    model: selection === null ? config.baseModel : `${config.baseModel}:${selection.expression}`,
  }
  const recordUsage = (used: Usage) => {
    c.executionCtx.waitUntil(
      insertUsage(c.env.DB, {
        requestId,
        projectId,
        createdAtMs: Date.now(),
        route: 'chat.completions',
        model: config.baseModel,
        selection: selection?.expression ?? null,
        runnerId: generation.runnerId,
        promptTokens: used.prompt_tokens,
        completionTokens: used.completion_tokens,
      }),
    )
  }
  const headers = {
    ...proofHeaders(selection),
    ...(replaced ? { 'x-arcana-warning': 'frame-replaced' } : {}),
  }
  if (request.stream) {
    const { includeUsage } = request
    const stream = chatStream({ head, generation, selection, includeUsage, caller, recordUsage })
    return c.body(stream, 200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
    })
  }
  const held = await holdJson(
    collectAnswer(generation).then((answer) => {
      const completion = toCompletion(head, generation, selection, answer)
      recordUsage(completion.usage)
      return completion
    }),
    caller,
  )
  return sendHeld(held, headers)
})

function frameOf(selection: ResolvedSelection | null, request: ChatRequest) {
  if (selection === null) return { messages: request.messages, replaced: false }
  return applyFrame(selection.frame, request.messages)
}

export type EndEvent = Extract<GenerateEvent, { event: 'end' }>

type Answer = {
  readonly text: string
  readonly labels: readonly LabelProbability[] | undefined
  readonly end: EndEvent
}

async function collectAnswer(generation: Generation): Promise<Answer> {
  let text = ''
  let labels: readonly LabelProbability[] | undefined
  let end: EndEvent | undefined
  try {
    for await (const event of generation.events) {
      if (event.event === 'token') text += event.text
      else if (event.event === 'labels') labels = event.labels
      else if (event.event === 'end') end = event
    }
  } catch (error) {
    throw toApiError(error)
  }
  // The events end well only after each arm's end.
  return { text, labels, end: end! }
}

export function usageOf(end: EndEvent): Usage {
  const { prompt_tokens, completion_tokens } = end.usage
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

function toCompletion(
  head: AnswerHead,
  generation: Generation,
  selection: ResolvedSelection | null,
  { text, labels, end }: Answer,
): ChatCompletion {
  return {
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: null,
        finish_reason: end.finish_reason,
      },
    ],
    usage: usageOf(end),
    arcana: proofOf(selection, end.applied, generation.runnerId, labels),
  }
}
