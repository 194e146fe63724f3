import type { ChatRun } from '../answers/chat-run.ts'
import { sseStream } from '../http/sse-stream.ts'
import type {
  ArcanaProof,
  ChatCompletionChunk,
  ChatDelta,
  ChatLogprobs,
  FinishReason,
} from '../protocol/openai/chat-completions.ts'
import type { ChatEvent } from '../tasks/chat-answer.ts'

type ChatStreamOptions = {
  readonly includeUsage: boolean
  /** Whether the answer may call functions, so that it may have no content. */
  readonly hasTools: boolean
}

/**
 * Writes the answer as server-sent events. Each choice's first and last chunk have the proof. A
 * failure is an `error` event without a `[DONE]` after it.
 */
export function chatStream(run: ChatRun, options: ChatStreamOptions): ReadableStream<Uint8Array> {
  return sseStream(run.caller, (write) => pump(run, options, write))
}

async function pump(
  run: ChatRun,
  { includeUsage, hasTools }: ChatStreamOptions,
  write: (chunk: ChatCompletionChunk) => void,
): Promise<void> {
  // Clients join the deltas, so content that may be null must not begin as ''.
  const mayBeNull = hasTools || run.confidence?.fallbackLabel === null
  const writeChunk = (
    index: number,
    delta: ChatDelta,
    finishReason: FinishReason | null,
    extra: { readonly arcana?: ArcanaProof; readonly logprobs?: ChatLogprobs | null } = {},
  ) => {
    const { arcana, logprobs = null } = extra
    write({
      ...run.head,
      object: 'chat.completion.chunk',
      choices: [{ index, delta, logprobs, finish_reason: finishReason }],
      ...(includeUsage ? { usage: null } : {}),
      ...(arcana === undefined ? {} : { arcana }),
    })
  }
  for await (const event of run.events) {
    switch (event.kind) {
      case 'begin': {
        const delta = { role: 'assistant', content: mayBeNull ? null : '' } as const
        writeChunk(event.arm, delta, null, { arcana: event.arcana })
        break
      }
      case 'text': {
        const { arm, text: content, logprobs } = event
        if (content !== null) writeChunk(arm, { content }, null, { logprobs })
        break
      }
      case 'call':
        writeChunk(event.arm, { tool_calls: [callDeltaOf(event)] }, null)
        break
      case 'end':
        writeChunk(event.arm, {}, event.reason, { arcana: event.arcana })
        break
      case 'usage': {
        const { usage } = event
        if (includeUsage) {
          write({ ...run.head, object: 'chat.completion.chunk', choices: [], usage })
        }
        break
      }
    }
  }
}

function callDeltaOf({
  index,
  begun,
  arguments: json,
}: Extract<ChatEvent, { kind: 'call' }>): NonNullable<ChatDelta['tool_calls']>[number] {
  if (begun === null) return { index, function: { arguments: json } }
  const { id, name } = begun
  return { index, id, type: 'function', function: { name, arguments: json } }
}
