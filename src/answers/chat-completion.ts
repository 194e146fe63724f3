import {
  chatRequestSchema,
  withoutUnsupported,
  type ChatChoice,
  type ChatCompletion,
  type ChatRequest,
} from '../protocol/openai/chat-completions.ts'
import { parseWire } from '../protocol/parse.ts'
import { collectChat, type ChatAnswer } from '../tasks/chat-answer.ts'
import type { AnswerContext } from './answer-context.ts'
import { startChat, type ChatRun } from './chat-run.ts'

export type ChatCompletionRun = ChatRun & { readonly request: ChatRequest }

/**
 * Starts the answer to a body of `POST /v1/chat/completions`.
 * @throws {ApiError}
 */
export async function startChatCompletion(
  context: AnswerContext,
  given: Record<string, unknown>,
): Promise<ChatCompletionRun> {
  const { body, ignored } = withoutUnsupported(given)
  const request = parseWire(chatRequestSchema, body)
  const as = { prefix: 'chatcmpl-', route: 'chat.completions' } as const
  return { ...(await startChat(context, request, as, ignored)), request }
}

/** @throws {ApiError} */
export async function readChatCompletion(run: ChatCompletionRun): Promise<ChatCompletion> {
  const hasLogprobs = run.request.shaping.logprobs !== undefined
  const { answers, usage } = await collectChat(run.events, hasLogprobs)
  const [first, ...others] = answers.map(toChoice)
  return {
    ...run.head,
    object: 'chat.completion',
    choices: [first!, ...others],
    usage,
    // All answers have the same selection, so the first one's proof holds for all.
    arcana: answers[0]!.arcana,
  }
}

function toChoice({ text, calls, logprobs, reason }: ChatAnswer, index: number): ChatChoice {
  const message: ChatChoice['message'] =
    calls.length === 0
      ? { role: 'assistant', content: text, refusal: null }
      : {
          role: 'assistant',
          content: text === '' ? null : text,
          refusal: null,
          tool_calls: calls.map(({ id, name, arguments: json }) => ({
            id,
            type: 'function',
            function: { name, arguments: json },
          })),
        }
  return { index, message, logprobs, finish_reason: reason }
}
