/** What the answer to a chat says, apart from how a route writes it. */
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
      /** Null where a label is withheld and nothing is said instead. */
      readonly text: string | null
      /** Null where none were asked for, and for a label that is withheld. */
      readonly logprobs: ChatLogprobs | null
    }
  | {
      readonly kind: 'call'
      readonly arm: number
      /** Which of the answer's calls this is a part of, from 0. */
      readonly index: number
      /** On the call's first part. */
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
  /** Its admission is already checked. */
  readonly generation: Generation
  readonly selection: ResolvedSelection | null
  /** When an answer is withheld. */
  readonly confidence: Confidence | null
  /** Likeliest tokens wanted beside each token; undefined: no log probabilities. */
  readonly numLogprobs: number | undefined
}

/**
 * Reads a generation as its caller is to see it: labels under the version's temperature, an unsure
 * one withheld. The ends come last, once all of it is known to be whole, and then the usage.
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
        // Text that may yet become a stop string is held back; its tokens' logprobs are not.
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
  /** Null where the answer is withheld. */
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
 * Reads a chat's answers to their end.
 * @param hasLogprobs whether log probabilities were asked for
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
    // The events end well only after each arm's end.
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
