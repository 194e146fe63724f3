import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { readJsonObject } from '../http/read-json.ts'
import {
  chatRequestSchema,
  withoutUnsupported,
  type ChatChoice,
  type ChatCompletion,
} from '../protocol/openai/chat-completions.ts'
import { parseWire } from '../protocol/parse.ts'
import { collectChat, type ChatAnswer } from '../tasks/chat-answer.ts'
import { startChat, type ChatRun } from './chat-run.ts'
import { chatStream } from './chat-stream.ts'

export const chatCompletions = new Hono<AppEnv>().post('/', async (c) => {
  const { body, ignored } = withoutUnsupported(await readJsonObject(c.req.raw))
  const request = parseWire(chatRequestSchema, body)
  const as = { prefix: 'chatcmpl-', route: 'chat.completions' } as const
  const run = await startChat(c, request, as, ignored)
  if (request.stream) {
    const { includeUsage, tools } = request
    return run.sendStream(chatStream(run, { includeUsage, hasTools: tools !== undefined }))
  }
  return run.sendWhole(readWhole(run, request.shaping.logprobs !== undefined))
})

async function readWhole(run: ChatRun, hasLogprobs: boolean): Promise<ChatCompletion> {
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
