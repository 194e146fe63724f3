import type { Generation } from '../dispatch/generate.ts'
import { usageOf, type EndEvent } from '../dispatch/usage.ts'
import { sseStream } from '../http/sse-stream.ts'
import {
  createToolCallId,
  toChatLogprobs,
  type ArcanaProof,
  type ChatCompletionChunk,
  type ChatDelta,
  type ChatLogprobs,
  type FinishReason,
  type Usage,
} from '../protocol/openai/chat-completions.ts'
import type { Confidence } from '../protocol/openai/confidence.ts'
import type { GenerateEvent, LabelProbability } from '../protocol/runner.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { calibrateLabels, isWithheld } from '../tasks/confidence.ts'
import { labelLogprobs } from '../tasks/label-logprobs.ts'
import { proofOf } from '../tasks/plan.ts'
import type { AnswerHead } from './answer-route.ts'

type ChatStreamOptions = {
  readonly head: AnswerHead
  /** Its admission is already checked: headers go out with this stream. */
  readonly generation: Generation
  readonly selection: ResolvedSelection | null
  /** When the answer is withheld. */
  readonly confidence: Confidence | null
  /** Likeliest tokens wanted beside each token; undefined: no log probabilities. */
  readonly numLogprobs: number | undefined
  readonly includeUsage: boolean
  /** The answer may be calls alone, without content. */
  readonly hasTools: boolean
  /** Aborted when the client goes away. */
  readonly caller: AbortController
  readonly recordUsage: (usage: Usage) => void
}

/**
 * The answer as server-sent events. The proof is on each choice's first and last chunk; a failure is an `error` event, and then there is no `[DONE]`.
 */
export function chatStream(options: ChatStreamOptions): ReadableStream<Uint8Array> {
  return sseStream(options.caller, (write) => pump(options, write))
}

async function pump(
  options: ChatStreamOptions,
  write: (chunk: ChatCompletionChunk) => void,
): Promise<void> {
  const { generation, includeUsage, selection, confidence } = options
  const labels: (readonly LabelProbability[])[] = []
  const ends: EndEvent[] = []
  for await (const event of generation.events) {
    switch (event.event) {
      case 'accepted':
        write(
          chunkOf(
            options,
            event.arm,
            { role: 'assistant', content: mayBeNull(options) ? null : '' },
            null,
            { arcana: proofOf(selection, event.applied, generation.runnerId) },
          ),
        )
        break
      case 'token':
        // Text that may yet become a stop string is held back; its tokens' logprobs are not.
        if (event.text !== '' || event.logprobs !== undefined) {
          const content = contentOf(options, event.text, labels[event.arm])
          const logprobs = logprobsOf(options, event, labels[event.arm])
          if (content !== null) write(chunkOf(options, event.arm, { content }, null, { logprobs }))
        }
        break
      case 'tool_call':
        write(chunkOf(options, event.arm, { tool_calls: [callDeltaOf(event)] }, null))
        break
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
  // Only now, with the terminal frame seen, is the answer known to be whole.
  for (const [index, end] of ends.entries()) {
    const arcana = proofOf(selection, end.applied, generation.runnerId, labels[index], confidence)
    write(chunkOf(options, index, {}, end.finish_reason, { arcana }))
  }
  const usage = usageOf(ends)
  if (includeUsage) {
    write({ ...options.head, object: 'chat.completion.chunk', choices: [], usage })
  }
  options.recordUsage(usage)
}

function callDeltaOf({
  index,
  name,
  arguments: json,
}: Extract<GenerateEvent, { event: 'tool_call' }>): NonNullable<ChatDelta['tool_calls']>[number] {
  if (name === undefined) return { index, function: { arguments: json } }
  return { index, id: createToolCallId(), type: 'function', function: { name, arguments: json } }
}

/** Clients join the deltas: an answer that began as '' would not come out as null. */
const mayBeNull = ({ hasTools, confidence }: ChatStreamOptions): boolean =>
  hasTools || confidence?.fallbackLabel === null

/** What an answer of labels says: its label, or what stands for it where it is too unsure. */
function contentOf(
  { selection, confidence }: ChatStreamOptions,
  text: string,
  labels: readonly LabelProbability[] | undefined,
): string | null {
  if (confidence === null || labels === undefined) return text
  const isUnsure = isWithheld(calibrateLabels(labels, selection), confidence)
  return isUnsure ? confidence.fallbackLabel : text
}

/** A withheld label's are not told. */
function logprobsOf(
  { selection, confidence, numLogprobs }: ChatStreamOptions,
  { text, logprobs }: Extract<GenerateEvent, { event: 'token' }>,
  labels: readonly LabelProbability[] | undefined,
): ChatLogprobs | null {
  if (labels === undefined) return logprobs === undefined ? null : toChatLogprobs(logprobs)
  if (numLogprobs === undefined) return null
  const served = calibrateLabels(labels, selection)
  return isWithheld(served, confidence) ? null : labelLogprobs(served, text, numLogprobs)
}

function chunkOf(
  { head, includeUsage }: ChatStreamOptions,
  index: number,
  delta: ChatDelta,
  finishReason: FinishReason | null,
  extra: { readonly arcana?: ArcanaProof; readonly logprobs?: ChatLogprobs | null } = {},
): ChatCompletionChunk {
  const { arcana, logprobs = null } = extra
  return {
    ...head,
    object: 'chat.completion.chunk',
    choices: [{ index, delta, logprobs, finish_reason: finishReason }],
    ...(includeUsage ? { usage: null } : {}),
    ...(arcana === undefined ? {} : { arcana }),
  }
}
