import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { collectAnswers, type Answer } from '../dispatch/collect.ts'
import { startGeneration, type Generation } from '../dispatch/generate.ts'
import { usageOf } from '../dispatch/usage.ts'
import { abortWith, holdJson, sendHeld } from '../http/held-json.ts'
import { readJsonObject } from '../http/read-json.ts'
import { warningHeaders } from '../http/warnings.ts'
import {
  chatRequestSchema,
  createToolCallId,
  toChatLogprobs,
  withoutUnsupported,
  type ChatChoice,
  type ChatCompletion,
  type ChatLogprobs,
  type ChatRequest,
} from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import { deriveSeeds } from '../protocol/openai/sampling.ts'
import { ignoredHeader } from '../protocol/openai/unsupported.ts'
import { parseWire } from '../protocol/parse.ts'
import { servicesOf } from '../services.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { confidenceOf } from '../tasks/confidence.ts'
import { labelLogprobs } from '../tasks/label-logprobs.ts'
import { holdMsOf, readService } from '../tasks/service.ts'
import { chatStream } from './chat-stream.ts'
import { applyFrame } from '../tasks/frame.ts'
import { planArm, planGeneration, proofHeaders, proofOf, readChoiceHeader } from '../tasks/plan.ts'
import { readAdapter } from '../tasks/stored-adapter.ts'
import {
  answerHead,
  readSelected,
  SSE_HEADERS,
  usageRecorder,
  type AnswerHead,
} from './answer-route.ts'

export const chatCompletions = new Hono<AppEnv>().post('/', async (c) => {
  const projectId = c.get('projectId')
  const requestId = c.get('requestId')
  const { config, runners } = servicesOf(c.env)
  const { body, ignored } = withoutUnsupported(await readJsonObject(c.req.raw))
  const request = parseWire(chatRequestSchema, body)
  const service = readService(request.tier, c.req.header('x-arcana-timeout'), Date.now())
  const isChoiceWanted = readChoiceHeader(c.req.header('x-arcana-choice'))
  const { baseModel } = config
  const selection = await readSelected(c, request.model, baseModel)
  const { messages, replaced } = frameOf(selection, request)
  const labels = isChoiceWanted ? (selection?.labels ?? null) : null
  const confidence = confidenceOf(request.confidence, selection, labels)
  const plan = planGeneration({
    requestId,
    projectId,
    model: baseModel,
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
    { pool: runners, readAdapter: (digest) => readAdapter(c.env, projectId, digest) },
    plan,
    caller.signal,
  )

  const head = answerHead('chatcmpl', requestId, baseModel, selection, request.tier)
  const { runnerId } = generation
  const route = 'chat.completions'
  const recordUsage = usageRecorder(c, { route, baseModel, selection, runnerId })
  const headers = {
    ...proofHeaders(selection),
    ...ignoredHeader(ignored),
    ...(generation.hasGenericTools ? { 'x-arcana-tools': 'generic' } : {}),
    ...warningHeaders({
      words: [
        ...(replaced ? ['frame-replaced'] : []),
        ...(labels !== null && request.stop.length > 0 ? ['stop-of-label'] : []),
      ],
      schemaHints: generation.schemaHints,
    }),
  }
  const { logprobs: numLogprobs } = request.shaping
  if (request.stream) {
    const { includeUsage } = request
    const stream = chatStream({
      head,
      generation,
      selection,
      confidence,
      numLogprobs,
      includeUsage,
      hasTools: request.tools !== undefined,
      caller,
      recordUsage,
    })
    return c.body(stream, 200, { ...headers, ...SSE_HEADERS })
  }
  const held = await holdJson(
    collectAnswers(generation).then((answers) => {
      const completion = toCompletion(head, generation, selection, confidence, answers, numLogprobs)
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
  numLogprobs: number | undefined,
): ChatCompletion {
  const ends = answers.map(({ end }) => end)
  // All answers are of one selection; their labels' probabilities are the same.
  const { labels } = answers[0]!
  const arcana = proofOf(selection, ends[0]!.applied, generation.runnerId, labels, confidence)
  const contentOf = (text: string) =>
    arcana.withheld === true ? (confidence?.fallbackLabel ?? null) : text
  const messageOf = ({ text, calls }: Answer): ChatChoice['message'] => {
    if (calls.length === 0) return { role: 'assistant', content: contentOf(text), refusal: null }
    return {
      role: 'assistant',
      content: text === '' ? null : text,
      refusal: null,
      tool_calls: calls.map((call) => ({
        id: createToolCallId(),
        type: 'function',
        function: { name: call.name, arguments: call.arguments },
      })),
    }
  }
  const logprobsOf = ({ text, logprobs }: Answer): ChatLogprobs | null => {
    if (numLogprobs === undefined) return null
    if (arcana.labels === undefined) return toChatLogprobs(logprobs)
    return arcana.withheld === true ? null : labelLogprobs(arcana.labels, text, numLogprobs)
  }
  const [first, ...others] = answers.map((answer, index): ChatChoice => ({
    index,
    message: messageOf(answer),
    logprobs: logprobsOf(answer),
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
