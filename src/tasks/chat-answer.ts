/** The answer to a chat as events, which each route writes in its own form. */
import type { Generation } from '../dispatch/generate.ts'
import { toApiError } from '../dispatch/runner-error.ts'
import { usageOf, type EndEvent } from '../dispatch/count-usage.ts'
import {
  createToolCallId,
  toChatLogprobs,
  type ArcanaProof,
  type ChatLogprobs,
  type FinishReason,
  type Usage,
} from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import type { GenerateEvent, LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from './compose.ts'
import { calibrateLabels, isWithheld } from './confidence.ts'
import { labelLogprobs } from './label-logprobs.ts'
import { proofOf } from './answer-proof.ts'

export type ChatEvent =
  | { readonly kind: 'begin'; readonly arm: number; readonly arcana: ArcanaProof }
  | {
      readonly kind: 'text'
      readonly arm: number
      /** Null if a label is withheld and no other text replaces it. */
      readonly text: string | null
      /** Null if the request asks for none, and for a withheld label. */
      readonly logprobs: ChatLogprobs | null
    }
  | {
      readonly kind: 'call'
      readonly arm: number
      /** The number of the call within its answer, from 0. */
      readonly index: number
      /** Only a call's first part has this. */
      readonly begun: { readonly id: string; readonly name: string } | null
      readonly arguments: string
    }
  | {
      readonly kind: 'end'
      readonly arm: number
      readonly reason: FinishReason
      readonly arcana: ArcanaProof
    }
  | { readonly kind: 'usage'; readonly usage: Usage }

export type ChatEventsOptions = {
  /** The runner has admitted it, and the proof has been checked. */
  readonly generation: Generation
  readonly selection: ResolvedSelection | null
  /** When an answer is withheld. */
  readonly confidence: Confidence | null
  /**
   * How many likeliest tokens to give beside each token; undefined asks for no log probabilities.
   */
  readonly numLogprobs: number | undefined
}

/**
 * Turns a runner's events into those that the caller sees: labels have the version's temperature,
 * and an unsure label is withheld. The `end` events come when all answers are complete, then the
 * usage.
 */
export async function* chatEvents(options: ChatEventsOptions): AsyncGenerator<ChatEvent> {
  const { generation, selection, confidence } = options
  const { runnerId } = generation
  const labels: (readonly LabelProbability[])[] = []
  const ends: EndEvent[] = []
  for await (const event of generation.events) {
    switch (event.event) {
      case 'accepted': {
        const arcana = proofOf(selection, event.applied, runnerId)
        yield { kind: 'begin', arm: event.arm, arcana }
        break
      }
      case 'token':
        // The runner holds back text that may become a stop string, but not its tokens' logprobs.
        if (event.text !== '' || event.logprobs !== undefined) {
          yield textOf(options, event, labels[event.arm])
        }
        break
      case 'tool_call': {
        const { arm, index, name, arguments: json } = event
        const begun = name === undefined ? null : { id: createToolCallId(), name }
        yield { kind: 'call', arm, index, begun, arguments: json }
        break
      }
      case 'labels':
        labels[event.arm] = event.labels
        break
      case 'end':
        ends[event.arm] = event
        break
      case 'prompt':
      case 'error':
      case 'done':
        break
    }
  }
  for (const [arm, end] of ends.entries()) {
    const arcana = proofOf(selection, end.applied, runnerId, labels[arm], confidence)
    yield { kind: 'end', arm, reason: end.finish_reason, arcana }
  }
  yield { kind: 'usage', usage: usageOf(ends) }
}

function textOf(
  { selection, confidence, numLogprobs }: ChatEventsOptions,
  { arm, text, logprobs }: Extract<GenerateEvent, { event: 'token' }>,
  labels: readonly LabelProbability[] | undefined,
): ChatEvent {
  if (labels === undefined) {
    return { kind: 'text', arm, text, logprobs: logprobs ? toChatLogprobs(logprobs) : null }
  }
  const served = calibrateLabels(labels, selection)
  if (isWithheld(served, confidence)) {
    return { kind: 'text', arm, text: confidence?.fallbackLabel ?? null, logprobs: null }
  }
  const own = numLogprobs === undefined ? null : labelLogprobs(served, text, numLogprobs)
  return { kind: 'text', arm, text, logprobs: own }
}

export type ChatCall = { readonly id: string; readonly name: string; readonly arguments: string }

export type ChatAnswer = {
  /** Null if the answer is withheld. */
  readonly text: string | null
  readonly calls: readonly ChatCall[]
  readonly logprobs: ChatLogprobs | null
  readonly reason: FinishReason
  readonly arcana: ArcanaProof
}

type AnswerRecord = {
  text: string | null
  readonly calls: { id: string; name: string; arguments: string }[]
  readonly logprobs: ChatLogprobs['content'][number][]
  end: Extract<ChatEvent, { kind: 'end' }> | null
}

/**
 * Collects a chat's answers.
 * @param hasLogprobs whether the request asks for log probabilities
 * @throws {ApiError}
 */
export async function collectChat(
  events: AsyncGenerator<ChatEvent>,
  hasLogprobs: boolean,
): Promise<{ readonly answers: readonly ChatAnswer[]; readonly usage: Usage }> {
  const records: AnswerRecord[] = []
  const recordOf = (arm: number): AnswerRecord =>
    (records[arm] ??= { text: '', calls: [], logprobs: [], end: null })
  let usage: Usage | null = null
  try {
    for await (const event of events) {
      if (event.kind === 'usage') usage = event.usage
      else if (event.kind === 'text') addText(recordOf(event.arm), event)
      else if (event.kind === 'call') addCall(recordOf(event.arm), event)
      else if (event.kind === 'end') recordOf(event.arm).end = event
    }
  } catch (error) {
    throw toApiError(error)
  }
  const answers = records.map(({ text, calls, logprobs, end }): ChatAnswer => {
    // The generator throws unless every arm has ended.
    const { reason, arcana } = end!
    const areTold = hasLogprobs && arcana.withheld !== true
    return {
      text,
      calls,
      logprobs: areTold ? { content: logprobs, refusal: null } : null,
      reason,
      arcana,
    }
  })
  return { answers, usage: usage! }
}

function addText(record: AnswerRecord, event: Extract<ChatEvent, { kind: 'text' }>): void {
  record.text = event.text === null ? null : (record.text ?? '') + event.text
  record.logprobs.push(...(event.logprobs?.content ?? []))
}

function addCall(record: AnswerRecord, event: Extract<ChatEvent, { kind: 'call' }>): void {
  const { index, begun } = event
  const call = (record.calls[index] ??= { id: '', name: '', ...begun, arguments: '' })
  call.arguments += event.arguments
}
