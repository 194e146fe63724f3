import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { insertUsage } from '../db/usage.ts'
import { collectAnswers, type Answer } from '../dispatch/collect.ts'
import { startGeneration, type Generation } from '../dispatch/generate.ts'
import { usageOf } from '../dispatch/usage.ts'
import { abortWith, holdJson, sendHeld } from '../http/held-json.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  chatRequestSchema,
  toChatLogprobs,
  withoutUnsupported,
  type ChatChoice,
  type ChatCompletion,
  type ChatRequest,
  type Usage,
} from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import { deriveSeeds } from '../protocol/openai/sampling.ts'
import { parseWire } from '../protocol/parse.ts'
import type { ServiceTier } from '../protocol/runner.ts'
import { servicesOf } from '../services.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { confidenceOf } from '../tasks/confidence.ts'
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
import { holdMsOf, readService } from '../tasks/service.ts'
import { chatStream } from './chat-stream.ts'

/** What the objects of one answer have in common. */
export type AnswerHead = {
  readonly id: string
  readonly created: number
  readonly model: string
  readonly service_tier?: ServiceTier
}

export const chatCompletions = new Hono<AppEnv>().post('/', async (c) => {
  const projectId = c.get('projectId')
  const requestId = c.get('requestId')
  const { config, runners } = servicesOf(c.env)
  const body = withoutUnsupported(await readJsonObject(c.req.raw))
  const request = parseWire(chatRequestSchema, body)
  const service = readService(request.tier, c.req.header('x-arcana-timeout'), Date.now())
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
  const confidence = confidenceOf(request.confidence, selection, labels)
  const plan = planGeneration({
    requestId,
    projectId,
    model: config.baseModel,
    input: { messages: [...messages] },
    arms: await Promise.all(
      deriveSeeds(request.seed, request.n).map((seed) => planArm(selection, labels, seed)),
    ),
    labels,
    sampling: request,
    service,
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
    ...(request.tier === undefined ? {} : { service_tier: request.tier }),
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
  const hasLogprobs = request.shaping.logprobs !== undefined
  if (request.stream) {
    const { includeUsage } = request
    const stream = chatStream({
      head,
      generation,
      selection,
      confidence,
      includeUsage,
      caller,
      recordUsage,
    })
    return c.body(stream, 200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
    })
  }
  const held = await holdJson(
    collectAnswers(generation).then((answers) => {
      const completion = toCompletion(head, generation, selection, confidence, answers, hasLogprobs)
      recordUsage(completion.usage)
      return completion
    }),
    caller,
    holdMsOf(service, Date.now()),
  )
  return sendHeld(held, headers)
})

function frameOf(selection: ResolvedSelection | null, request: ChatRequest) {
  if (selection === null) return { messages: request.messages, replaced: false }
  return applyFrame(selection.frame, request.messages)
}

function toCompletion(
  head: AnswerHead,
  generation: Generation,
  selection: ResolvedSelection | null,
  confidence: Confidence | null,
  answers: readonly Answer[],
  hasLogprobs: boolean,
): ChatCompletion {
  const ends = answers.map(({ end }) => end)
  // All answers are of one selection; their labels' probabilities are the same.
  const { labels } = answers[0]!
  const arcana = proofOf(selection, ends[0]!.applied, generation.runnerId, labels, confidence)
  const contentOf = (text: string) =>
    arcana.withheld === true ? (confidence?.fallbackLabel ?? null) : text
  const [first, ...others] = answers.map(({ text, logprobs }, index): ChatChoice => ({
    index,
    message: { role: 'assistant', content: contentOf(text), refusal: null },
    logprobs: hasLogprobs ? toChatLogprobs(logprobs) : null,
    finish_reason: ends[index]!.finish_reason,
  }))
  return {
    ...head,
    object: 'chat.completion',
    choices: [first!, ...others],
    usage: usageOf(ends),
    arcana,
  }
}
