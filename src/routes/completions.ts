import { Hono } from 'hono'
import { readCompletion, startCompletion } from '../answers/completion.ts'
import type { AppEnv } from '../context.ts'
import { readJsonObject } from '../http/read-json.ts'
import { answerContextOf, sendStream, sendWhole } from './answer-route.ts'
import { completionStream } from './completion-stream.ts'

export const completions = new Hono<AppEnv>().post('/', async (c) => {
  const run = await startCompletion(answerContextOf(c), await readJsonObject(c.req.raw))
  return run.request.stream
    ? sendStream(run, completionStream(run))
    : sendWhole(run, readCompletion(run))
})
