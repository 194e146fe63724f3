import { Hono } from 'hono'
import { readChatCompletion, startChatCompletion } from '../answers/chat-completion.ts'
import type { AppEnv } from '../context.ts'
import { readJsonObject } from '../http/read-json.ts'
import { answerContextOf, sendStream, sendWhole } from './answer-route.ts'
import { chatStream } from './chat-stream.ts'

export const chatCompletions = new Hono<AppEnv>().post('/', async (c) => {
  const run = await startChatCompletion(answerContextOf(c), await readJsonObject(c.req.raw))
  const { stream, includeUsage, tools } = run.request
  if (!stream) return sendWhole(run, readChatCompletion(run))
  return sendStream(run, chatStream(run, { includeUsage, hasTools: tools !== undefined }))
})
