import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { askRunner } from '../dispatch/ask-runner.ts'
import { readJsonObject } from '../http/read-json.ts'
import { withoutNulls } from '../protocol/openai/nulls.ts'
import { parseWire } from '../protocol/parse.ts'
import {
  detokenizeRequestSchema,
  tokenizeRequestSchema,
  tokenizerInfoQuerySchema,
} from '../protocol/tokenizer.ts'
import { servicesOf } from '../services.ts'
import { readModel } from '../tasks/requested-model.ts'

/** The tokenizer of a base model, at the paths that lm-evaluation-harness uses. */
export const tokenizer = new Hono<AppEnv>()
  .get('/tokenizer_info', async (c) => {
    const { config, runners } = servicesOf(c.env)
    const { model } = readModel(config, parseWire(tokenizerInfoQuerySchema, c.req.query()).model)
    return c.json(await askRunner(runners, model, (client) => client.tokenizerInfo()))
  })
  .post('/tokenize', async (c) => {
    const { config, runners } = servicesOf(c.env)
    const body = withoutNulls(await readJsonObject(c.req.raw))
    const request = parseWire(tokenizeRequestSchema, body)
    const { model } = readModel(config, request.model)
    return c.json(await askRunner(runners, model, (client) => client.tokenize(request)))
  })
  .post('/detokenize', async (c) => {
    const { config, runners } = servicesOf(c.env)
    const body = withoutNulls(await readJsonObject(c.req.raw))
    const request = parseWire(detokenizeRequestSchema, body)
    const { model } = readModel(config, request.model)
    return c.json(await askRunner(runners, model, (client) => client.detokenize(request)))
  })
