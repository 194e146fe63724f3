import type { Generation } from '../dispatch/generate.ts'
import { toApiError } from '../dispatch/runner-error.ts'
import { usageOf, type EndEvent } from '../dispatch/usage.ts'
import { ApiError } from '../protocol/openai/error.ts'
import {
  toChatLogprobs,
  type ArcanaProof,
  type ChatCompletionChunk,
  type ChatLogprobs,
  type FinishReason,
  type Usage,
} from '../protocol/openai/chat-completions.ts'
import type { LabelProbability } from '../protocol/runner.ts'
import { encodeSse, SSE_DONE, SSE_KEEPALIVE } from '../protocol/sse.ts'
import type { ResolvedSelection } from '../tasks/compose.ts'
import { proofOf } from '../tasks/plan.ts'
import type { AnswerHead } from './chat-completions.ts'

/** A write is also how a client that has gone is noticed while the runner is silent. */
const KEEPALIVE_MS = 2_000

type ChatStreamOptions = {
  readonly head: AnswerHead
  /** Its admission is already checked: headers go out with this stream. */
  readonly generation: Generation
  readonly selection: ResolvedSelection | null
  readonly includeUsage: boolean
  /** Aborted when the client goes away. */
  readonly caller: AbortController
  readonly recordUsage: (usage: Usage) => void
}

/**
 * The answer as server-sent events. The proof is on each choice's first and last chunk; a failure is an `error` event, and then there is no `[DONE]`.
 */
export function chatStream(options: ChatStreamOptions): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let keepalive: ReturnType<typeof setInterval> | null = null
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (frame: string) => {
        controller.enqueue(encoder.encode(frame))
      }
      keepalive = setInterval(() => {
        send(SSE_KEEPALIVE)
      }, KEEPALIVE_MS)
      // Not awaited: the stream is read while it is being filled.
      void pump(options, send).finally(() => {
        if (keepalive !== null) clearInterval(keepalive)
        if (!options.caller.signal.aborted) controller.close()
      })
    },
    cancel() {
      if (keepalive !== null) clearInterval(keepalive)
      options.caller.abort()
    },
  })
}

async function pump(options: ChatStreamOptions, send: (frame: string) => void): Promise<void> {
  const { generation, caller, includeUsage } = options
  const write = (chunk: ChatCompletionChunk) => {
    if (!caller.signal.aborted) send(encodeSse(chunk))
  }
  try {
    const labels: (readonly LabelProbability[])[] = []
    const ends: EndEvent[] = []
    for await (const event of generation.events) {
      switch (event.event) {
        case 'accepted':
          write(
            chunkOf(options, event.arm, { role: 'assistant', content: '' }, null, {
              arcana: proofOf(options.selection, event.applied, generation.runnerId),
            }),
          )
          break
        case 'token':
          // Text that may yet become a stop string is held back; its tokens' logprobs are not.
          if (event.text !== '' || event.logprobs !== undefined) {
            const logprobs = event.logprobs === undefined ? null : toChatLogprobs(event.logprobs)
            write(chunkOf(options, event.arm, { content: event.text }, null, { logprobs }))
          }
          break
        case 'labels':
          labels[event.arm] = event.labels
          break
        case 'end':
          ends[event.arm] = event
          break
        case 'error':
        case 'done':
          break
      }
    }
    // Only now, with the terminal frame seen, is the answer known to be whole.
    for (const [index, end] of ends.entries()) {
      const arcana = proofOf(options.selection, end.applied, generation.runnerId, labels[index])
      write(chunkOf(options, index, {}, end.finish_reason, { arcana }))
    }
    const usage = usageOf(ends)
    if (includeUsage) {
      write({ ...options.head, object: 'chat.completion.chunk', choices: [], usage })
    }
    options.recordUsage(usage)
    if (!caller.signal.aborted) send(SSE_DONE)
  } catch (error) {
    if (!caller.signal.aborted) send(encodeSse(toBody(error)))
  }
}

function toBody(error: unknown) {
  try {
    return toApiError(error).toBody()
  } catch (unexpected) {
    console.error(JSON.stringify({ event: 'stream_failed', error: String(unexpected) }))
    return new ApiError(500, 'The server had an error while answering.').toBody()
  }
}

function chunkOf(
  { head, includeUsage }: ChatStreamOptions,
  index: number,
  delta: { readonly role?: 'assistant'; readonly content?: string },
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
