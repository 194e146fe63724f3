/** Takes a chat from its request to its events. All endpoints that answer chats share this part. */
import type { Urgency } from '../dispatch/urgency.ts'
import { abortWith } from '../http/held-json.ts'
import { warningHeaders } from '../http/warnings.ts'
import type { Admission } from '../limits/admission.ts'
import type { ChatRequest, Usage } from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import { ignoredHeader } from '../protocol/openai/unsupported.ts'
import { chatEvents, type ChatEvent } from '../tasks/chat-answer.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { confidenceOf } from '../tasks/confidence.ts'
import { applyFrame } from '../tasks/frame.ts'
import { proofHeaders, retirementOf } from '../tasks/answer-proof.ts'
import { planArm, planGeneration, readChoice } from '../tasks/plan.ts'
import { deriveSeeds } from '../tasks/seeds.ts'
import {
  admit,
  answerHead,
  resolveRequested,
  startPlan,
  urgencyOf,
  usageRecorder,
  type AnswerContext,
  type AnswerHead,
} from './answer-context.ts'

/** A chat that a runner has admitted. The proof has been checked. */
export type ChatRun = {
  readonly head: AnswerHead
  readonly events: AsyncGenerator<ChatEvent>
  /** When an answer is withheld. */
  readonly confidence: Confidence | null
  /** The temperature at which the answer is drawn: the request's, or the default. */
  readonly temperature: number
  /** The answer's headers: the proof, fields that were ignored, and warnings. */
  readonly headers: Record<string, string>
  readonly urgency: Urgency
  /** Aborted when the client goes away. */
  readonly caller: AbortController
}

/** The names of an endpoint that answers chats: in ids and in the usage table. */
export type ChatRoute = {
  readonly prefix: 'chatcmpl-' | 'resp_'
  readonly route: 'chat.completions' | 'responses'
}

/**
 * Plans a chat and starts it on a runner.
 * @param ignored fields of the request that do nothing
 * @throws {ApiError} `param` has the chat's name of the field
 */
export async function startChat(
  context: AnswerContext,
  request: ChatRequest,
  as: ChatRoute,
  ignored: readonly string[],
): Promise<ChatRun> {
  const { requestId, projectId } = context
  const urgency = urgencyOf(context, request.tier)
  const requested = await resolveRequested(context, request.model)
  const { selection } = requested
  const { messages, replaced } = frameOf(selection, request)
  const labels = readChoice(context.header('x-arcana-choice'), selection)
  const confidence = confidenceOf(request.confidence, selection, labels)
  const plan = planGeneration({
    requestId,
    projectId,
    model: requested.model,
    input: { messages: [...messages] },
    arms: await Promise.all(
      deriveSeeds(request.seed, request.n).map((seed) => planArm(selection, labels, seed)),
    ),
    labels,
    sampling: request,
    urgency,
  })
  const caller = abortWith(context.signal)
  await admit(context, [plan], caller.signal)
  const generation = await startPlan(context, plan, caller.signal)
  const { runnerId, hasGenericTools, schemaHints } = generation
  const { logprobs: numLogprobs } = request.shaping
  const headers = {
    ...proofHeaders(selection),
    ...ignoredHeader(ignored),
    ...(hasGenericTools ? { 'x-arcana-tools': 'generic' } : {}),
    ...warningHeaders({
      words: [
        ...(retirementOf(selection) === null ? [] : ['version-retires']),
        ...(replaced ? ['frame-replaced'] : []),
        ...(labels !== null && request.stop.length > 0 ? ['stop-of-label'] : []),
      ],
      schemaHints,
    }),
  }
  return {
    head: answerHead(as.prefix, requestId, requested, request.tier),
    events: accountFor(
      chatEvents({ generation, selection, confidence, numLogprobs }),
      context.admission,
      usageRecorder(context, { route: as.route, requested, runnerId }),
    ),
    confidence,
    temperature: plan.request.sampling.temperature,
    headers,
    urgency,
    caller,
  }
}

/** Passes an answer's events on, records its usage, and ends its admission when they end. */
async function* accountFor(
  events: AsyncGenerator<ChatEvent>,
  admission: Admission | undefined,
  recordUsage: (usage: Usage) => void,
): AsyncGenerator<ChatEvent> {
  try {
    for await (const event of events) {
      if (event.kind === 'usage') recordUsage(event.usage)
      yield event
    }
  } finally {
    admission?.end()
  }
}

function frameOf(selection: ResolvedSelection | null, request: ChatRequest) {
  if (selection === null) return { messages: request.messages, replaced: false }
  return applyFrame(selection.frame, request.messages)
}
